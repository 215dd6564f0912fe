"""How long the pipeline takes and how much memory: a fresh clone, every stage, nothing to do, every --help.

    python bench/pipeline.py            writes bench/results/pipeline.md; about ten minutes on two cores

Times are wall-clock seconds. Memory is the largest resident set of any process that the command started.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGES = (
    *("download", "sample", "options", "filter", "train", "predict@base", "predict@trained", "baselines"),
    *("evaluate", "report"),
)


def measured(folder: Path, *command: str) -> tuple[float, float]:
    """Seconds and peak MiB of one command and all that it starts. CalledProcessError where it fails."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            out.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command, out.read().decode())
    kibibytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return time.perf_counter() - start, kibibytes / 1024


def module(stage: str) -> str:
    return f"pipeline.stages.{stage.split('@')[0]}"


def table(scratch: Path) -> list[str]:
    for name in ("nothing", "packages"):
        subprocess.run(["git", "clone", "-q", str(ROOT), str(scratch / name)], check=True)
    seconds, peak = measured(scratch / "nothing", "make", "repro")
    lines = [f"| `make repro` from nothing, packages included | {seconds:.0f} | {peak:.0f} |"]
    print(lines[-1], flush=True)
    folder, total, highest = scratch / "packages", 0.0, 0.0
    for stage in STAGES:
        seconds, peak = measured(folder, "dvc", "repro", "--single-item", "--force", stage)
        total, highest = total + seconds, max(highest, peak)
        shortest = min(measured(folder, sys.executable, "-m", module(stage), "--help")[0] for _ in range(5))
        lines.append(f"| {stage}; its `--help`, best of 5: {shortest:.2f} s | {seconds:.1f} | {peak:.0f} |")
        print(lines[-1], flush=True)
    idle = min(measured(folder, "dvc", "repro")[0] for _ in range(3))
    lines.insert(1, f"| `dvc repro` of everything, packages there, stage by stage | {total:.0f} | {highest:.0f} |")
    lines.insert(2, f"| `dvc repro` with nothing to do, best of 3 | {idle:.1f} | |")
    return ["| what | seconds | peak MiB |", "|---|---|---|", *lines]


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        lines = table(Path(scratch))
    machine = f"{os.cpu_count()} CPU cores, {platform.machine()}, Python {platform.python_version()}"
    out = ROOT / "bench" / "results" / "pipeline.md"
    out.parent.mkdir(exist_ok=True)
    out.write_text("\n".join([f"`python bench/pipeline.py` on {machine}:", "", *lines, ""]), encoding="utf-8")
    print(out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
