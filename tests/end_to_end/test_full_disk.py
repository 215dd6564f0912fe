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


# In a mount namespace of its own: a copy of the workspace fills its tmpfs to the last byte, and goes with the process.
ON_A_FULL_TMPFS = """
set -eu
mount -t tmpfs -o size=200m none "$2"
cp -a "$1/." "$2"
cd "$2"
rm -rf .work && mkdir -p .work tmp
outputs() { find data models reports -type f -exec md5sum {} + | sort; }
outputs > /dev/shm/$$.before
cat /dev/zero > filler 2> /dev/null || true
code=0
TMPDIR="$2/tmp" PYTHONDONTWRITEBYTECODE=1 "$3" -m pipeline.stages.$4 || code=$?
rm filler
outputs | cmp - /dev/shm/$$.before || code=9
rm /dev/shm/$$.before
exit $code
"""
NAMESPACE = ("unshare", "--map-root-user", "--mount")


def can_mount() -> bool:
    """Whether this user may mount a tmpfs in a namespace of its own."""
    if not shutil.which("unshare") or not Path("/dev/shm").is_dir():
        return False
    return not subprocess.run((*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"), capture_output=True).returncode


def arguments(stage: str) -> list[str]:
    """The module of a stage and the arguments that dvc.yaml gives it."""
    name, _, label = stage.partition("@")
    model = "models/policy" if label == "trained" else "models/fieldguide"
    out = f"data/predictions/{label}.parquet"
    return [name, *(("--model", model, "--label", label, "--out", out) if label else ())]


@pytest.mark.skipif(not can_mount(), reason="needs a mount namespace")
@pytest.mark.parametrize("stage", STAGES if os.environ.get("DIVEK_KILLS") else ("options", "report"))
def test_without_one_free_byte_a_stage_ends_in_a_sentence(workspace, tmp_path, stage):
    (tmp_path / "full").mkdir()
    name, *options = arguments(stage)
    script = ON_A_FULL_TMPFS.replace("stages.$4", f"stages.{name} {' '.join(options)}")
    command = (*NAMESPACE, "sh", "-c", script, "sh", str(workspace), str(tmp_path / "full"), sys.executable)
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert "No space left" in done.stderr, done.stderr


def as_a_user() -> tuple[str, ...] | None:
    """What stands before a command so that permissions hold for it as well when root runs the tests."""
    if os.getuid():
        return ()
    powers = "-dac_override,-dac_read_search"
    command = ("setpriv", "--bounding-set", powers, "--inh-caps", powers)
    return command if shutil.which("setpriv") and not subprocess.run((*command, "true")).returncode else None


@pytest.mark.skipif(as_a_user() is None, reason="root may write everywhere")
@pytest.mark.parametrize("stage", STAGES if os.environ.get("DIVEK_KILLS") else ("report",))
def test_a_folder_that_cannot_be_written_is_a_sentence(workspace, stage):
    before = hashes(workspace)
    name, *options = arguments(stage)
    closed = [path for name in ("data", "models", "reports") for path in (workspace / name).rglob("*") if path.is_dir()]
    closed += [workspace / name for name in ("data", "models", "reports")]
    for folder in closed:
        folder.chmod(0o555)
    try:
        command = (*as_a_user(), sys.executable, "-m", f"pipeline.stages.{name}", *options)
        done = subprocess.run(command, cwd=workspace, capture_output=True, text=True)
    finally:
        for folder in closed:
            folder.chmod(0o755)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert "make it writable" in done.stderr, done.stderr
    assert hashes(workspace) == before
