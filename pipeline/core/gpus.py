"""Which GPUs a process computes on: runs side by side, such as those of `dvc queue start -j 4`, have each their own.

A run holds a lock for each of its GPUs, for all projects of this user on this machine, until its process has ended, and
the server that it started. Only NVIDIA's GPUs are counted; elsewhere nothing is claimed, and torch chooses.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from filelock import lock_descriptor

from pipeline.core.errors import UserError
from pipeline.core.words import counted

VISIBLE = "CUDA_VISIBLE_DEVICES"
CLAIMED = "DIVEK_CLAIMED_GPUS"  # set where this process or the one that started it holds the locks
POLL = 2.0  # seconds
REPORT_EVERY = 300  # polls

descriptors: list[int] = []
"""Of the locks that this process holds: a process that is given one holds the lock as well."""


def claim(count: int) -> list[str]:
    """Claims GPUs for this process and those that it starts, once; waits for them where other runs have them.

    Args:
        count: how many; 0 takes all that are free, and at least one.

    Returns:
        Their names, as CUDA_VISIBLE_DEVICES has them; empty on a machine without. Raises UserError where there are
        fewer than `count`.
    """
    if CLAIMED in os.environ:
        claimed = [name for name in os.environ[CLAIMED].split(",") if name]
        if claimed and count > len(claimed):
            raise UserError(_too_few(count, claimed, "claimed by this stage"))
        return claimed
    names = visible()
    if not names:
        return []
    if count > len(names):
        raise UserError(_too_few(count, names, "visible"))
    polls = 0
    while not (claimed := _take(names, count)):
        if polls % REPORT_EVERY == 0:
            print(
                f"other runs have the GPUs: waiting for {count or 1} of {len(names)} (locks: {_folder()})",
                file=sys.stderr,
            )
        polls += 1
        time.sleep(POLL)
    os.environ[VISIBLE] = os.environ[CLAIMED] = ",".join(claimed)
    return claimed


def visible() -> list[str]:
    """The GPUs that this process may use, by their UUIDs: those of CUDA_VISIBLE_DEVICES, or all that there are."""
    listing = ""
    with suppress(OSError, subprocess.SubprocessError):
        command = ("nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader")
        listing = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    uuids = dict(line.replace(" ", "").split(",", 1) for line in listing.splitlines() if "," in line)
    if VISIBLE not in os.environ:
        return list(uuids.values())
    names = [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip() not in ("", "-1")]
    return list(dict.fromkeys(uuids.get(name, name) for name in names))


def _take(names: list[str], count: int) -> list[str]:
    """Takes `count` of the GPUs, or all that are free; none where there are too few."""
    folder = _folder()
    folder.mkdir(exist_ok=True)
    taken: dict[str, int] = {}
    for name in names:
        file = os.open(folder / f"{name.replace('/', '-')}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        if lock_descriptor(file, blocking=False):
            taken[name] = file
        else:
            os.close(file)
        if count and len(taken) == count:
            break
    if len(taken) < max(1, count):
        for file in taken.values():
            os.close(file)
        return []
    descriptors.extend(taken.values())
    return list(taken)


def _folder() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    return Path(tempfile.gettempdir()) / f"divek-gpus-{user}"


def _too_few(count: int, names: list[str], how: str) -> str:
    return (
        f"{counted(count, 'GPU')} needed, and {counted(len(names), 'GPU')} {how} ({', '.join(names)}); set "
        "engine.processes or num_processes in train.launch_config lower"
    )
