"""Work, seconds and memory of each stage: stored apart from the results, since they differ between runs."""

import json
import os
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from pipeline.core.files import work_folder

_STARTED = time.perf_counter()
_counts: Counter[str] = Counter()
LABELS = ("way",)
"""Keys of words; all others are of numbers."""

_labels: dict[str, str] = {}
_ready_after: list[float] = []


def record(**counts: int) -> None:
    """Adds to the counts of this process, such as draws=20 or tokens=240."""
    _counts.update(counts)


def label(**words: str) -> None:
    """Sets words of LABELS about the work of this process, such as way="shared"; alone they are no work."""
    _labels.update(words)


def mark_ready() -> None:
    """Marks the end of start-up, such as loading a model, which takes the same time whatever the work follows.

    Only the first call counts.
    """
    _ready_after.append(time.perf_counter() - _STARTED)


def save(stage: str) -> None:
    """Appends a line about this process to the stage's file, if it recorded any work. Write errors are ignored."""
    if not _counts:
        return
    entry = {
        **_counts,
        **_labels,
        "seconds": round(time.perf_counter() - _STARTED, 3),
        "startup": round(_ready_after[0], 3) if _ready_after else 0.0,
        "mib": _peak_memory(),
        "cores": os.cpu_count(),
        **_gpu_memory(),
    }
    with suppress(OSError):
        file = work_folder("rates") / f"{stage}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(entry) + "\n")


def _peak_memory() -> int:
    """The largest resident set so far, in MiB; 0 on systems that do not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def _gpu_memory() -> dict[str, int]:
    """The most that torch has reserved on this process's GPU, and what the GPU has, in MiB; empty without a GPU."""
    torch = sys.modules.get("torch")  # not imported for this alone
    if torch is None or not torch.cuda.is_initialized():
        return {}
    total = torch.cuda.get_device_properties().total_memory
    return {"gpu_mib": round(torch.cuda.max_memory_reserved() / 2**20), "gpu_total_mib": round(total / 2**20)}


def load(stage: str) -> list[dict[str, Any]]:
    """The entries of a stage, oldest first. Incomplete lines are skipped."""
    entries = []
    with suppress(OSError):
        for line in (work_folder("rates") / f"{stage}.jsonl").read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, RecursionError):
                entry = json.loads(line)
                if isinstance(entry, dict) and all(_is_valid(*item) for item in entry.items()):
                    entries.append(entry)
    return entries


def _is_valid(key: str, value: Any) -> bool:
    return isinstance(value, str) if key in LABELS else type(value) in (int, float)
