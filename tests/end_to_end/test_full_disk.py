"""A disk that is full, or a folder that cannot be written: every stage ends in a sentence and leaves what was there."""

import contextlib
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.workspace import STAGES, run_stage

from pipeline.core.errors import UserError, system_sentence

resource = pytest.importorskip("resource")

LIMIT = 1024  # bytes that a file may have: smaller than any output


@contextlib.contextmanager
def small_files():
    """Within, no file of this process grows beyond LIMIT, as on a disk that has just become full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # Python keeps what it wrote half
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        sys.dont_write_bytecode = bytecode
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def hashes(folder: Path) -> dict[str, str]:
    """Every output of the run by its path."""
    files = (file for name in ("data", "models", "reports") for file in (folder / name).rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.md5(file.read_bytes()).hexdigest() for file in sorted(files)}


STAGES_TO_FILL = (
    STAGES if os.environ.get("DIVEK_KILLS") else ("download", "sample", "predict@base", "evaluate", "report")
)


@pytest.mark.parametrize("stage", STAGES_TO_FILL)
def test_a_full_disk_is_a_sentence_and_changes_nothing(workspace, stage):
    shutil.rmtree(workspace / ".work", ignore_errors=True)  # the draws are to be made, and cannot be kept
    before = hashes(workspace)
    with small_files(), pytest.raises((OSError, UserError)) as caught:
        run_stage(workspace, stage)
    text = system_sentence(caught.value) if isinstance(caught.value, OSError) else str(caught.value)
    assert "File too large" in text or "cannot be written" in text or "os error 27" in text, text
    assert "\n" not in text
    assert hashes(workspace) == before


@pytest.mark.skipif(os.name == "posix" and os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_a_sentence(workspace):
    (workspace / "reports").chmod(0o555)
    command = (sys.executable, "-m", "pipeline.stages.report")
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "make it writable" in done.stderr
