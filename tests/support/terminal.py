"""What a terminal gets from a program."""

import os
import pty
import subprocess
import sys

from support.project import ROOT


def in_terminal(code: str, **environment: str) -> str:
    """What a terminal gets from a program."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=slave,
        stderr=slave,
        env={k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm-256color"} | environment,
    )
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 65536):
            seen += chunk
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(master)
        assert process.wait(30) == 0
    return seen.decode()
