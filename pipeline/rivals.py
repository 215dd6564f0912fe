"""Answer every test image by the further models of evaluate.models, to stand beside base and trained one.

Departure from the paper, whose only such model is CLIP: any model folder, hub id or endpoint answers in the same two
steps, and CLIP stands beside prompt learning (CoOp) and pairwise descriptions (FuDD) by the same checkpoint.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from pipeline import params, rates, tables
from pipeline.asking import ClassLists
from pipeline.classifiers.answering import KINDS, Classifier, ClassifierParams, shots
from pipeline.cli import run
from pipeline.params import UserError
from pipeline.predict import PredictParams, answered, predictions, tested

TAKEN = ("base", "trained", "gain")  # what metrics.json calls other things


@dataclass(frozen=True)
class RivalParams(PredictParams):
    models: tuple[str, ...] = params.key("evaluate.models")


@dataclass(frozen=True)
class Rival:
    """One of evaluate.models, taken apart: `kind:source`, `source`, or `source@URL`."""

    kind: str  # one of KINDS, or "" for a vision-language model
    source: str
    endpoint: str  # "" where it runs in this process

    @property
    def label(self) -> str:
        """What the tables call it; without dots, which DVC takes for levels."""
        name = re.sub(r"[^\w-]+", "-", self.source.rstrip("/").rpartition("/")[2])
        return f"{self.kind}_{name}" if self.kind else name


def parsed(models: tuple[str, ...]) -> list[Rival]:
    """The rivals in the order named. Raises UserError where two, or one and another model, would be called alike."""
    found: dict[str, Rival] = {}
    for text in models:
        kind, colon, rest = text.partition(":")
        kind, rest = (kind, rest) if colon and kind in KINDS else ("", text)
        source, _, url = rest.partition("@http")
        rival = Rival(kind, source, f"http{url}" if url else "")
        wanted = "a model folder, a hub id, model@http://…, or clip:, coop: or fudd: and a CLIP folder or hub id"
        if not source or (kind and url):
            raise UserError(f"params.yaml: evaluate.models has {text!r}, wanted {wanted}")
        if rival.label in found or rival.label in TAKEN:
            raise UserError(
                f"params.yaml: evaluate.models has {text!r}, and another model is called {rival.label} too; rename or "
                "link one of the folders, or leave one out"
            )
        found[rival.label] = rival
    return list(found.values())


def pictures(images: Path, index: pl.DataFrame) -> pl.DataFrame:
    """The rows of the table of images that `index` names, pictures and all."""
    return tables.read(tables.IMAGES, images, where=pl.col("image_id").is_in(index["image_id"].implode()))


def main(
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    out: Annotated[Path, typer.Option(help="Table of predictions to write.")] = Path("data/predictions/rivals.parquet"),
) -> None:
    """Answer every test image by the further models of evaluate.models, to stand beside base and trained one."""
    asked, settings = params.load(RivalParams), params.load(ClassifierParams)
    rivals, rows = parsed(asked.models), [tables.PREDICTIONS.schema.to_frame()]
    class_rows = tables.read(tables.CLASSES, classes)
    lists, parts = ClassLists(class_rows), tested(images, class_rows, asked.val_images)
    halves = class_rows.select("dataset", "class_id", half="split")
    for rival in rivals:
        if not rival.kind:
            own = replace(asked, engine="openai", endpoints=(rival.endpoint,)) if rival.endpoint else asked
            rows.append(answered(own.connect(rival.source), images, parts, lists, own, rival.label))
            continue
        index = tables.read(tables.IMAGES, images, ["image_id", "dataset", "class_id", "split"])
        learn = shots(index, class_rows, settings.shots, settings.seed) if rival.kind == "coop" else index.clear()
        classifier = Classifier(rival.kind, rival.source, rival.label, settings, lists, pictures(images, learn))
        for split, part in parts.items():
            found, choices = classifier.answer(pictures(images, part).join(halves, on=["dataset", "class_id"]))
            rows.append(predictions(found, choices, rival.label, asked.max_error_rate, split))
    table = pl.concat(rows)
    tables.write(tables.PREDICTIONS, table, out)
    if rivals:
        rates.note(images=table.height)
    right = (
        table.filter(split="test")
        .group_by("model", maintain_order=True)
        .agg((pl.col("one_step") == pl.col("class_id")).fill_null(False).mean())
    )
    said = ", ".join(f"{model} {share:.1%}" for model, share in right.iter_rows())
    print(f"{said} right at first sight" if said else "evaluate.models is empty: no further models")


if __name__ == "__main__":
    run(main, RivalParams, ClassifierParams)
