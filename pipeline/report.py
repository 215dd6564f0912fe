"""Show the numbers, the training curves and twelve examples on one page that needs no network."""

import base64
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline import params, rates, tables
from pipeline.charts import CURVES, Points, line_chart, read_log
from pipeline.cli import run
from pipeline.files import write_text
from pipeline.metrics import ARMS
from pipeline.params import UserError

PREDICTIONS = [Path("data/predictions/base.parquet"), Path("data/predictions/trained.parquet")]
MODELS = ("base", "trained")
METRICS = ("pass@1", "pass@K", *ARMS, "letter_choice", "status")
PARTS = {"base": "Base classes", "novel": "Novel classes", "hm": "Harmonic mean"}
TEMPLATE = Path(__file__).with_name("report.html.j2")
EXAMPLES = 12
LARGEST_SIDE = 480  # pixels; larger pictures are embedded smaller, so that the page can be committed

Answers = Sequence[dict[str, Any]]
"""The rows of predictions for one test image, one per model, the base model's first."""


@dataclass(frozen=True)
class ReportParams:
    dataset: tuple[str, ...] = params.key("dataset")
    model: str = params.key("model")
    num_samples: int = params.key("num_samples", at_least=1)
    topk: int = params.key("topk", at_least=2)
    seed: int = params.key("seed", at_least=0, at_most=params.LARGEST_SEED)


def right(row: dict[str, Any], arm: str = "two_step") -> bool:
    return bool(row[arm] == row["class_id"])  # a null answer is a wrong one


def offered(row: dict[str, Any]) -> bool:
    return any(option["class_id"] == row["class_id"] for option in row["options"])


@dataclass(frozen=True)
class Rule:
    """A kind of example, and how many of it the page wants."""

    title: str
    wanted: int
    fits: Callable[[Answers], bool]


RULES = (
    Rule("Training put it right", 4, lambda a: not right(a[0]) and right(a[-1])),
    Rule("Training spoiled it", 2, lambda a: right(a[0]) and not right(a[-1])),
    Rule("The vote was wrong, the choice right", 1, lambda a: not right(a[-1], "vote") and right(a[-1])),
    Rule("The vote was right, the choice wrong", 1, lambda a: right(a[-1], "vote") and not right(a[-1])),
    Rule("Wrong, though it was among the options", 1, lambda a: not any(map(right, a)) and offered(a[-1])),
    Rule("Wrong, it was not among the options", 1, lambda a: not any(map(right, a)) and not offered(a[-1])),
    Rule("Right throughout", 2, lambda a: all(map(right, a))),
)


def by_image(predictions: pl.DataFrame, models: Sequence[str]) -> list[Answers]:
    """The answers to every image that all `models` answered, sorted by image."""
    found: dict[str, dict[str, Any]] = {}
    for row in predictions.sort("image_id").iter_rows(named=True):
        found.setdefault(row["image_id"], {})[row["model"]] = row
    return [[rows[model] for model in models] for rows in found.values() if set(models) <= set(rows)]


def examples(answers: Sequence[Answers]) -> list[tuple[Rule, Answers]]:
    """Up to twelve instructive images, each with the rule that took it: never picked by hand.

    Each rule takes as many as it wants, then the rules take turns. Base and novel classes take turns too; a
    question that was asked and a class not yet shown go first; ids, which are hashes, decide the rest.
    """
    left, taken = list(answers), list[tuple[Rule, Answers]]()
    for rule in [*(r for r in RULES for _ in range(r.wanted)), *RULES * EXAMPLES]:
        halves = Counter(a[0]["half"] for _, a in taken)
        shown = {a[0]["class_id"] for _, a in taken}
        ranks = [
            (
                halves[a[0]["half"]],
                sum(row["choice_text"] is None for row in a),
                a[0]["class_id"] in shown,
                place,
            )
            for place, a in enumerate(left)
            if rule.fits(a)
        ]
        if ranks and len(taken) < EXAMPLES:
            taken.append((rule, left.pop(min(ranks)[-1])))
    return sorted(taken, key=lambda pair: RULES.index(pair[0]))


def data_uri(image: bytes) -> str:
    """The picture inside an address: as it is, or as a smaller JPEG where it is too large.

    An image that could not be read is empty, and its address too.
    """
    from PIL import Image, ImageOps

    if not image:
        return "data:,"
    picture = Image.open(io.BytesIO(image))
    kind = str(picture.format).lower()
    if max(picture.size) > LARGEST_SIDE:
        smaller, buffer = ImageOps.exif_transpose(picture).convert("RGB"), io.BytesIO()
        smaller.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        smaller.save(buffer, "JPEG", quality=85)
        image, kind = buffer.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def page(
    asked: ReportParams,
    scores: dict[str, Any],
    log: dict[str, Points],
    predictions: pl.DataFrame,
    classes: pl.DataFrame,
    images: pl.DataFrame,
) -> str:
    """The page as HTML. Raises UserError where the tables are not of one run."""
    models = [model for model in MODELS if model in scores]
    answers = by_image(predictions, models)
    chosen = examples(answers)
    wanted = [a[0]["image_id"] for _, a in chosen]
    pictures = dict(images.filter(pl.col("image_id").is_in(wanted)).select("image_id", "image").iter_rows())
    if not chosen or len(pictures) < len(wanted):
        found = f"{len(answers)} images that {' and '.join(models)} answered, {len(pictures)} example pictures"
        raise UserError(f"predictions: found {found}, wanted all of one run; `dvc repro report` makes them")
    # Autoescape, since class names and all that a model wrote are untrusted. Charts escape their own texts.
    loader = FileSystemLoader(TEMPLATE.parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template(TEMPLATE.name).render(
        asked=asked,
        scores=scores,
        parts={part: title for part, title in PARTS.items() if scores["base"]["two_step"][part] is not None},
        models=models,
        charts=[line_chart(*CURVES[name], points) for name, points in log.items()],
        names=dict(zip(classes.select("dataset", "class_id").iter_rows(), classes["name"], strict=True)),
        pictures={image_id: data_uri(image) for image_id, image in pictures.items()},
        examples=[(rule.title, sum(map(rule.fits, answers)), a) for rule, a in chosen],
        images=len(answers),
    )


def read_scores(path: Path) -> dict[str, Any]:
    """What evaluate wrote, checked to have what the page shows. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file, wanted the metrics; `dvc repro evaluate` writes it")
    try:
        scores: dict[str, Any] = json.loads(path.read_text())
        models = [model for model in MODELS if model == "base" or model in scores]
        lacking = [f"{m}.{metric}" for m in models for metric in METRICS if metric not in scores[m]]
    except (ValueError, TypeError, KeyError):
        lacking = ["metrics of the base model as JSON"]
    if lacking:
        raise UserError(f"{path}: found no {', '.join(lacking)}; `dvc repro evaluate` writes it anew")
    return scores


def checks_alone(training: Path) -> str:
    """The steps at which validation images were answered: a plot of the whole log would take the others for 0."""
    columns = ["step", "validation_two_step"]
    return pl.read_csv(training, columns=columns, schema_overrides={columns[1]: pl.Float64}).drop_nulls().write_csv()


def main(
    predictions: Annotated[list[Path], typer.Option(help="Table of predictions; repeatable.")] = PREDICTIONS,
    images: Annotated[Path, typer.Option(help="Table of images.")] = Path("data/images.parquet"),
    classes: Annotated[Path, typer.Option(help="Table of classes.")] = Path("data/classes.parquet"),
    metrics: Annotated[Path, typer.Option(help="JSON file of metrics.")] = Path("reports/metrics.json"),
    training: Annotated[Path, typer.Option(help="CSV of the training curves.")] = Path("data/training.csv"),
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("reports/index.html"),
    curves: Annotated[Path, typer.Option(help="Copy of the curves to write.")] = Path("reports/training.csv"),
    checks: Annotated[Path, typer.Option(help="CSV of the checks in training to write.")] = Path("reports/checks.csv"),
) -> None:
    """Show the numbers, the training curves and twelve examples on one page that needs no network."""
    asked, scores, log = params.load(ReportParams), read_scores(metrics), read_log(training)
    tested = pl.col("split") == "test"
    rows = pl.concat([tables.read(tables.PREDICTIONS, path, where=tested) for path in predictions])
    html = page(
        asked,
        scores,
        log,
        rows,
        tables.read(tables.CLASSES, classes),
        tables.read(tables.IMAGES, images, where=tested),
    )
    write_text(out, html)
    rates.note(images=rows["image_id"].n_unique())
    write_text(curves, training.read_text())
    write_text(checks, checks_alone(training))
    print(f"{out}: {len(html.encode()):,} bytes; open it in any browser")


if __name__ == "__main__":
    run(main)
