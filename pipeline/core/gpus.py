"""Which GPUs a process computes on: runs side by side, such as those of `dvc queue start -j 4`, have each their own.

A run holds a lock for each of its GPUs, for all projects of this user on this machine, until its process ends. Only
NVIDIA's GPUs are counted; elsewhere nothing is claimed, and torch chooses.
"""

import getpass
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core.errors import UserError
from pipeline.core.words import counted

VISIBLE = "CUDA_VISIBLE_DEVICES"
CLAIMED = "DIVEK_CLAIMED_GPUS"  # set where this process or the one that started it holds the locks
POLL = 2.0  # seconds
_held: list[FileLock] = []


def claim(count: int) -> list[str]:
    """Claims GPUs for this process and those that it starts, once; waits for them where other runs have them.

    Args:
        count: how many; 0 takes all that are free, and at least one.

    Returns:
        Their names, as CUDA_VISIBLE_DEVICES has them; empty on a machine without. Raises UserError where there are
        fewer than `count`.
    """
    if CLAIMED in os.environ:
        return [name for name in os.environ[CLAIMED].split(",") if name]
    names = visible()
    if not names:
        return []
    if count > len(names):
        raise UserError(
            f"{counted(count, 'GPU')} needed, and {counted(len(names), 'GPU')} visible ({','.join(names)}); set "
            "engine.processes or num_processes in train.launch_config lower"
        )
    claimed = _take(names, count)
    if not claimed:
        print("other runs have the GPUs: waiting until they end", file=sys.stderr)
    while not claimed:
        time.sleep(POLL)
        claimed = _take(names, count)
    os.environ[VISIBLE] = os.environ[CLAIMED] = ",".join(claimed)
    return claimed


def visible() -> list[str]:
    """The GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, or all that the driver lists."""
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip() not in ("", "-1")]
    with suppress(OSError, subprocess.SubprocessError):
        command = ("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")
        listing = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
        return listing.split()
    return []


def _take(names: list[str], count: int) -> list[str]:
    """Takes `count` of the GPUs, or all that are free; none where there are too few."""
    folder = Path(tempfile.gettempdir()) / f"divek-gpus-{getpass.getuser()}"
    folder.mkdir(exist_ok=True)
    taken = []
    for name in names:
        lock = FileLock(folder / f"{name}.lock")
        with suppress(Timeout):
            lock.acquire(blocking=False)
            taken.append((name, lock))
        if count and len(taken) == count:
            break
    if len(taken) < max(1, count):
        for _, lock in taken:
            lock.release()
        return []
    _held.extend(lock for _, lock in taken)
    return [name for name, _ in taken]
