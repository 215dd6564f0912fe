"""Whether the project's packages can be installed beside vLLM in one environment: a dry run of pip for every Python.

    python bench/beside_vllm.py vllm==0.33.0 python3.11 python3.12 python3.13

Writes bench/results/beside_vllm.md. Downloads some gigabytes of packages where the registry does not say what they
require; installs nothing.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "beside_vllm.md"
SHOWN = ("vllm", "torch", "transformers", "trl", "peft", "numpy", "openai")


def versions(requirement, python, folder):
    """What pip would install, by name; the last lines of its message where it finds no common versions."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    subprocess.run((python, "-m", "venv", folder / "env"), check=True)
    # The pip of an older Python downloads whole packages to read what they require.
    subprocess.run((folder / "env" / "bin" / "python", "-m", "pip", "install", "-q", "-U", "pip"), check=True)
    report = folder / "report.json"
    pip = (folder / "env" / "bin" / "python", "-m", "pip", "install", "--dry-run", "--quiet", "--report", report)
    done = subprocess.run((*pip, requirement, *dependencies), capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        return None, " ".join(errors)[-300:]
    entries = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {one["metadata"]["name"].lower(): one["metadata"]["version"] for one in entries}, ""


def main():
    requirement, *pythons = sys.argv[1:]
    lines = [f"| Python | {' | '.join(SHOWN)} |", f"|---|{'---|' * len(SHOWN)}"]
    for python in pythons:
        with tempfile.TemporaryDirectory() as folder:
            found, reason = versions(requirement, python, Path(folder))
        name = Path(python).name.removeprefix("python")
        cells = [found.get(package, "–") for package in SHOWN] if found else [f"no common versions: {reason}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    title = f"# The project's packages beside {requirement}, as pip resolves them\n"
    command = "Made by `python bench/beside_vllm.py`: a dry run of pip in an empty environment of each Python.\n"
    RESULTS.write_text("\n".join((title + command, *lines)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
