"""Runs a server in a process group of its own, and ends the whole group when whoever started it ends, in any way.

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

PR_SET_PDEATHSIG = 1  # of linux/prctl.h
POLL = 0.1  # seconds


def supervise(patience: float, command: list[str]) -> int:
    """Runs `command` until it ends or stdin is closed; nothing of its group is left afterwards. Its exit code."""
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):  # stdin alone says when to end
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: None)  # SIG_IGN would be inherited by the server
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=end_with_parent)
    threading.Thread(target=_end_with_stdin, args=(server, patience), daemon=True).start()
    code = server.wait()
    _end_group(server, patience)
    return code


def end_with_parent() -> None:
    """Has the system kill this process when the one that started it ends; on Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_stdin(server: subprocess.Popen[bytes], patience: float) -> None:
    while os.read(0, 1024):
        pass
    _end_group(server, patience)


def _end_group(server: subprocess.Popen[bytes], patience: float) -> None:
    """Asks the group to end, and kills what is left of it after `patience` seconds."""
    if os.name != "posix":
        server.kill()
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGTERM)
        for _ in range(int(patience / POLL)):
            time.sleep(POLL)
            os.killpg(server.pid, 0)  # raises where no process of the group is left
        os.killpg(server.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(supervise(float(sys.argv[1]), sys.argv[2:]))
