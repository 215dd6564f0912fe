"""Runs a server, and ends it with all that it started when whoever started it ends, in any way.

The process that starts this module keeps the other end of stdin open: a pipe that the system closes when that process
ends, also when it is killed. Usage: `python -m pipeline.engines.servers.supervisor SECONDS COMMAND ARGUMENT…`, with the
time that the server has to end before it is killed; the exit code is the server's.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of linux/prctl.h
POLL = 0.1  # seconds


def supervise(patience: float, command: list[str]) -> int:
    """Runs `command` until it ends or stdin is closed. Its exit code.

    Nothing of its process group is left afterwards, and on Linux nothing at all of what it started.
    """
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):  # stdin alone says when to end
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: None)  # SIG_IGN would be inherited by the server
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # what leaves the group and loses its parent becomes a child of this process
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=end_with_parent)
    threading.Thread(target=_end_with_stdin, args=(server, patience), daemon=True).start()
    code = _wait(server)
    _end_all(server, patience)
    return code


def end_with_parent() -> None:
    """Has the system kill this process when the one that started it ends; on Linux alone."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _wait(server: subprocess.Popen[bytes]) -> int:
    """The exit code of the server. Processes without a parent are reaped until it is there."""
    if os.name != "posix":
        return server.wait()
    while server.returncode is None:
        pid, status = os.waitpid(-1, 0)
        if pid == server.pid:
            server.returncode = os.waitstatus_to_exitcode(status)
    return server.returncode


def _end_with_stdin(server: subprocess.Popen[bytes], patience: float) -> None:
    while os.read(0, 1024):
        pass
    _end_all(server, patience)


def _end_all(server: subprocess.Popen[bytes], patience: float) -> None:
    """Asks the server's processes to end, and kills what is left of them after `patience` seconds."""
    if os.name != "posix":
        server.kill()
        return
    _send(server.pid, signal.SIGTERM)
    kill_at = time.monotonic() + patience
    while _send(server.pid, 0 if time.monotonic() < kill_at else signal.SIGKILL):
        time.sleep(POLL)


def _send(server: int, number: int) -> bool:
    """Sends a signal to the processes of the server that run. Returns whether there is any."""
    if sys.platform == "linux":
        runs = False
        for pid in _descendants(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
                runs = True
        return runs
    try:
        os.killpg(server, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _descendants(root: int) -> list[int]:
    """The processes under `root` that run, on Linux."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            state, parent = file.read_bytes().rpartition(b")")[2].split()[:2]
            if state != b"Z":
                children.setdefault(int(parent), []).append(int(file.parent.name))
    pids = [root]
    for pid in pids:
        pids += children.get(pid, [])
    return pids[1:]


if __name__ == "__main__":
    sys.exit(supervise(float(sys.argv[1]), sys.argv[2:]))
