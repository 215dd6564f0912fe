"""Unfinished training: complete checkpoints, the best weights, and the run that they belong to."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.core.files import whole_folder, work_folder, write_text
from pipeline.engines.common.loading import content
from pipeline.method.styles import style
from pipeline.training.params import TrainParams

VERSION = 4  # increase it when the same params and questions no longer train the same weights
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
        """The newest complete checkpoint."""
        checkpoints = {step_of(mark.parent): mark.parent for mark in self.path.glob(f"checkpoint-*/{COMPLETE}")}
        return checkpoints[max(checkpoints)] if checkpoints else None

    def complete(self, checkpoint: Path, progress: dict[str, Any]) -> None:
        """Marks a checkpoint as complete, and removes older ones."""
        write_text(checkpoint / COMPLETE, json.dumps(progress))
        for other in self.path.iterdir():
            if re.fullmatch(r"checkpoint-\d+", other.name) and step_of(other) < step_of(checkpoint):
                (other / COMPLETE).unlink(missing_ok=True)
                shutil.rmtree(other)

    @staticmethod
    def progress(checkpoint: Path) -> dict[str, Any]:
        """The progress that `complete` stored."""
        progress: dict[str, Any] = json.loads((checkpoint / COMPLETE).read_text())
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


def step_of(checkpoint: Path) -> int:
    """The optimiser steps after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])
