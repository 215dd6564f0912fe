"""A server that a stage starts for its model (`server.command`), and that ends with the stage, however that ends."""

import hashlib
import http.client
import json
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.core import gpus, timings
from pipeline.core.errors import UserError
from pipeline.core.files import work_folder, write_text
from pipeline.core.terminal import printable
from pipeline.engines.servers import supervisor
from pipeline.engines.servers.api_key import clean

KEY_VARIABLE = "VLLM_API_KEY"  # from which vLLM takes its key; other servers on this machine need none
VERSION_PATHS = ("/version", "/get_server_info")  # of vLLM and SGLang
LAST_LINES, LONGEST_LINE, LONGEST_TAIL = 12, 300, 2**16  # of a log, in a message: lines, characters, bytes
STARTING = (502, 503, 504)  # statuses of a server that is not ready
REPORT_EVERY = 60.0  # seconds
POLL = 0.5  # seconds
PATIENCE = 20.0  # seconds between the request to end and the kill
LOGS = 20  # that are kept


class ServerProcess:
    """A server of `model` on a free port of this machine, which `supervisor` runs.

    Args:
        command: a command line with {model} and {port}. No shell reads it.
        start_timeout: seconds within which it must answer.

    Attributes:
        key: that it requires, if it is vLLM; random, and known to no one else.
        url: base URL of its API.
        version: as vLLM and SGLang report it, "" for others.

    Raises:
        UserError: the command cannot be run, it ended, or it did not answer in time. The last lines of its log follow.
    """

    def __init__(self, command: str, model: str, start_timeout: float):
        self.model, self.start_timeout = model, start_timeout
        self.key = secrets.token_urlsafe(24)
        port = _free_port()
        self.url, self.log = f"http://127.0.0.1:{port}/v1", _new_log(model, port)
        words = _words(command, model, port)
        command_line = [sys.executable, "-m", supervisor.__name__, f"{PATIENCE:g}", *words]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command_line,
                stdin=subprocess.PIPE,  # which the system closes when this process ends
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {KEY_VARIABLE: self.key},
                pass_fds=gpus.descriptors if os.name == "posix" else (),  # the GPUs are its own until it has ended
                start_new_session=True,
            )
        try:
            self._wait()
            self.version = self._version()
            write_text(_version_file(command), self.version)
            timings.mark_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server and all that it started."""
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(2 * PATIENCE + 10)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def failure(self, note: str = "") -> str | None:
        """That it has ended, a note, and the last lines of its log; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return f"server.command: the server of {self.model} ended with exit code {code}{note}{self._tail()}"

    def _wait(self) -> None:
        """Until it answers, however it answers."""
        print(f"starting the server of {self.model}; its log is {self.log}", file=sys.stderr)
        start = time.monotonic()
        report_at = start + REPORT_EVERY
        while self._get("/v1/models") is None:
            now = time.monotonic()
            if failure := self.failure():
                raise UserError(failure)
            if now - start > self.start_timeout:
                raise UserError(
                    f"server.command: the server of {self.model} did not answer at {self.url} within "
                    f"server.start_timeout = {self.start_timeout:g} s{self._tail()}"
                )
            if now > report_at:
                report_at += REPORT_EVERY
                print(f"the server of {self.model} is starting, {now - start:.0f} s so far", file=sys.stderr)
            time.sleep(POLL)
        if failure := self.failure():  # what answers is another program
            raise UserError(failure)
        print(f"the server of {self.model} answers after {time.monotonic() - start:.0f} s", file=sys.stderr)

    def _get(self, path: str) -> bytes | None:
        """The body of an answer, empty where it is an error; None where there is none yet."""
        request = urllib.request.Request(
            self.url.removesuffix("/v1") + path, headers={"Authorization": f"Bearer {self.key}"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=5) as answer:
                return bytes(answer.read(LONGEST_TAIL))
        except urllib.error.HTTPError as error:
            return None if error.code in STARTING else b""
        except (OSError, ValueError, http.client.HTTPException):  # what answers may not speak HTTP
            return None

    def _version(self) -> str:
        for path in VERSION_PATHS:
            with suppress(ValueError, RecursionError):
                about: Any = json.loads(self._get(path) or b"null")
                if isinstance(about, dict) and isinstance(about.get("version"), str):
                    return " ".join(str(clean(about["version"], self.key)).split())[:100]
        return ""

    def _tail(self) -> str:
        """The last lines of the log, for the end of a message."""
        text = ""
        with suppress(OSError), self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - LONGEST_TAIL))
            text = clean(log.read().decode("utf-8", "replace"), self.key)
        lines = [line.rstrip()[:LONGEST_LINE] for line in text.splitlines() if line.strip()]
        shown = "\n  ".join(printable(line) for line in lines[-LAST_LINES:])
        return f"; the end of its log ({self.log}):\n  {shown}" if shown else f"; its log ({self.log}) is empty"


def last_version(command: str) -> str:
    """The version that the last server of this command line reported, "" where there was none."""
    file = _version_file(command)
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _version_file(command: str) -> Path:
    return work_folder("servers") / f"{hashlib.sha256(command.encode()).hexdigest()[:16]}.version"


def _words(command: str, model: str, port: int) -> list[str]:
    """The words of the command line. Raises UserError where it cannot be run."""
    example = "such as `vllm serve {model} --served-model-name {model} --host 127.0.0.1 --port {port}` (docs/scale.md)"
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UserError(f"server.command: {command!r} is no command line ({error}); expected one {example}") from None
    for place in ("{model}", "{port}"):
        if not any(place in word for word in words):
            raise UserError(f"server.command: {command!r} has no {place}; expected a command line {example}")
    if not shutil.which(words[0]):
        raise UserError(
            f"server.command: there is no program {words[0]!r} here; install it, or name it with its whole path"
        )
    return [word.replace("{model}", model).replace("{port}", str(port)) for word in words]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _new_log(model: str, port: int) -> Path:
    """A new file for a server's output; the oldest of more than LOGS are deleted."""
    folder = work_folder("servers")
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("*.log"))[: -LOGS + 1]:
        old.unlink(missing_ok=True)
    name = "".join(sign if sign.isalnum() else "-" for sign in model)[-60:]
    return folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{port}-{name}.log"
