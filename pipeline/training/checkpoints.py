"""Unfinished training: complete checkpoints, the best weights, and the run that they belong to."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.core.files import whole_folder, work_folder, write_text
from pipeline.core.words import counted
from pipeline.engines.common.model_folder import content
from pipeline.method.styles import style
from pipeline.training.params import TrainParams

VERSION = 5  # increase it when the same params and questions no longer train the same weights
COMPLETE = "complete.json"  # written into a checkpoint last, with the progress of the run


class RunFolder:
    """The folder of one run. Its name is a hash of all that the run depends on, so runs never share checkpoints."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def of(cls, params: TrainParams, rows: pl.DataFrame, validation: pl.DataFrame) -> "RunFolder":
        """The folder of the run over these questions and validation images. Image ids stand for the pictures."""
        inputs = {
            "version": VERSION,
            "libraries": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
            "settings": asdict(params),
            "style": asdict(style(params.prompt)),
            "model": content(params.model),
            "questions": rows.drop("image", strict=False).to_dicts(),
            "checked": validation["image_id"].to_list(),
        }
        name = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
        return cls(work_folder("train") / name)

    def inner(self, name: str) -> "RunFolder":
        """The folder of one round of the run."""
        return RunFolder(self.path / name)

    def last(self) -> Path | None:
        """The newest complete checkpoint; a damaged one is reported and renamed, and the one before it taken."""
        marks = sorted(self.path.glob(f"checkpoint-*/{COMPLETE}"), key=lambda mark: step_of(mark.parent), reverse=True)
        for checkpoint in (mark.parent for mark in marks):
            if (damage := damage_of(checkpoint)) is None:
                return checkpoint
            target = checkpoint.with_name(f"damaged-{checkpoint.name}")
            print(f"{checkpoint}: {damage}; renamed to {target.name}, training continues from before it")
            shutil.rmtree(target, ignore_errors=True)
            with suppress(FileNotFoundError):  # another process of the same training was first
                checkpoint.rename(target)
        return None

    def complete(self, checkpoint: Path, progress: dict[str, Any]) -> None:
        """Marks a checkpoint as complete, and removes all older ones but the one before it."""
        sizes = {file.name: file.stat().st_size for file in checkpoint.iterdir() if file.is_file()}
        write_text(checkpoint / COMPLETE, json.dumps({**progress, "sizes": sizes}))
        older = [one for one in self.path.iterdir() if re.fullmatch(r"checkpoint-\d+", one.name)]
        older = sorted((one for one in older if step_of(one) < step_of(checkpoint)), key=step_of)
        reserve = max((one for one in older if (one / COMPLETE).is_file()), key=step_of, default=None)
        for other in older:
            if other != reserve:
                (other / COMPLETE).unlink(missing_ok=True)
                shutil.rmtree(other)

    @staticmethod
    def progress(checkpoint: Path) -> dict[str, Any]:
        """The progress that `complete` stored."""
        progress: dict[str, Any] = json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8"))
        return progress

    @property
    def best(self) -> Path:
        """The model folder with the best weights so far, if there is one."""
        return self.path / "best"

    def save_best(self, save: Callable[[Path], None]) -> None:
        """Replaces the best weights by what `save` writes into a folder."""
        with whole_folder(self.best) as folder:
            save(folder)

    def clear(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def damage_of(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint that was marked as complete; None where nothing is."""
    try:
        sizes = dict(RunFolder.progress(checkpoint)["sizes"])
    except (ValueError, TypeError, KeyError, OSError) as error:
        return f"{COMPLETE} cannot be read ({type(error).__name__})"
    for name, size in sizes.items():
        file = checkpoint / name
        length = file.stat().st_size if file.is_file() else None
        if length != size:
            state = "is missing" if length is None else f"has {counted(length, 'byte')}"
            return f"{name} {state}, expected {size}"
    return None


def step_of(checkpoint: Path) -> int:
    """The optimiser steps after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])
