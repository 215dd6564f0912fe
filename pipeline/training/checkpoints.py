"""Unfinished training: checkpoints that are whole, the best weights, and whose they are."""

import hashlib
import json
import re
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.core.files import whole_folder, work_folder, write_text
from pipeline.engines.common.loading import content
from pipeline.training.params import TrainParams

VERSION = 3  # raised when the same settings and questions train otherwise than before
WHOLE = "whole.json"  # written into a checkpoint last, with what we keep of the run


class Work:
    """The folder of one run: what it depends on names it, so that no other run's checkpoints are taken up."""

    def __init__(self, folder: Path):
        self.folder = folder

    @classmethod
    def of(cls, wanted: TrainParams, rows: pl.DataFrame, checked: pl.DataFrame) -> "Work":
        """Args: rows, the questions; checked, the validation images. Image ids stand for the pictures."""
        about = {
            "version": VERSION,
            "libraries": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
            "settings": asdict(wanted),
            "model": content(wanted.model),
            "questions": rows.drop("image", strict=False).to_dicts(),
            "checked": checked["image_id"].to_list(),
        }
        name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        return cls(work_folder("train") / name)

    def inner(self, name: str) -> "Work":
        """The folder of a part of the run."""
        return Work(self.folder / name)

    def last(self) -> Path | None:
        """The newest whole checkpoint."""
        whole = {
            int(path.parent.name.rpartition("-")[2]): path.parent for path in self.folder.glob(f"checkpoint-*/{WHOLE}")
        }
        return whole[max(whole)] if whole else None

    def finish(self, checkpoint: Path, kept: dict[str, Any]) -> None:
        """Marks a checkpoint as whole, and removes older ones."""
        write_text(checkpoint / WHOLE, json.dumps(kept))
        number = int(checkpoint.name.rpartition("-")[2])
        for other in self.folder.iterdir():
            found = re.fullmatch(r"checkpoint-(\d+)", other.name)
            if found and int(found[1]) < number:
                (other / WHOLE).unlink(missing_ok=True)
                shutil.rmtree(other)

    @staticmethod
    def kept(checkpoint: Path) -> dict[str, Any]:
        """What `finish` wrote."""
        found: dict[str, Any] = json.loads((checkpoint / WHOLE).read_text())
        return found

    @property
    def best(self) -> Path:
        """The model folder with the best weights so far, if there is one."""
        return self.folder / "best"

    def keep_best(self, save: Any) -> None:
        """Puts what `save` writes into a folder in the place of the best weights."""
        with whole_folder(self.best) as folder:
            save(folder)

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
