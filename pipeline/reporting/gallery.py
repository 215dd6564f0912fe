"""The test images of the page: a short index for its filters; pictures and answers in chunks that it parses lazily."""

import base64
import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import polars as pl

from pipeline.core.params import UserError
from pipeline.core.progress import Advance, bar
from pipeline.evaluation.ways import answering, prepare

CHUNK = 50  # images
LARGEST_SIDE = 224  # pixels; larger pictures are scaled down
QUALITY = 80

KINDS = ("right", "wrong letter", "not offered", "unreadable")
"""Outcomes of the two steps; the index refers to them by number."""

Answers = Sequence[dict[str, Any]]
"""The predictions for one test image, one per model, the base model's first."""


def by_image(predictions: pl.DataFrame, models: Sequence[str]) -> list[Answers]:
    """The answers to every image that all `models` answered, sorted by image."""
    images: dict[str, dict[str, Any]] = {}
    for row in predictions.sort("image_id").iter_rows(named=True):
        images.setdefault(row["image_id"], {})[row["model"]] = row
    return [[rows[model] for model in models] for rows in images.values() if set(models) <= set(rows)]


def kind(row: dict[str, Any]) -> int:
    """The outcome of the two steps, as its number in KINDS."""
    if row["two_step"] is None:
        return 3
    if row["two_step"] == row["class_id"]:
        return 0
    return 1 if any(option["class_id"] == row["class_id"] for option in row["options"]) else 2


def data_uri(image: bytes) -> str:
    """The picture as a data URI: WebP, at most LARGEST_SIDE wide and high; "" for no bytes."""
    from PIL import Image

    if not image:
        return ""
    picture, buffer = Image.open(io.BytesIO(image)).convert("RGB"), io.BytesIO()
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    picture.save(buffer, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def embedded(value: object) -> str:
    """JSON for the inside of a script element: no text in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


class Gallery:
    """What the page embeds of the test images.

    Args:
        predictions: of the split "test".
        images: the table of images with their bytes, at least those of the predictions.
        titles: of the models, in the order shown; the filters are about the last one.

    Raises:
        UserError: where no image has an answer of every model, or one of them has no picture.
    """

    def __init__(self, predictions: pl.DataFrame, classes: pl.DataFrame, images: pl.DataFrame, titles: dict[str, str]):
        self.titles = titles
        ways = {way.name: way for way in answering() if way.headline}
        self.ways = [(name, way.title) for name, way in ways.items()]
        answers = prepare(predictions).with_columns(
            way.answer.alias(name) for name, way in ways.items() if way.answer is not None
        )
        self.answers = by_image(answers, list(titles))
        self.pictures = dict(images.select("image_id", "image").iter_rows())
        missing = sum(one[0]["image_id"] not in self.pictures for one in self.answers)
        if missing or not self.answers:
            problem = (
                f"{missing} of {len(self.answers)} images are not in the table of images"
                if missing
                else f"no test image has answers of {' and '.join(titles)}"
            )
            raise UserError(f"predictions: {problem}; the tables must be of one run, `dvc repro report` writes them")
        places = classes.select("dataset", "class_id", "name", "subset")
        self.classes = [{"dataset": d, "name": name, "subset": subset} for d, _, name, subset in places.iter_rows()]
        self._place = {key: number for number, key in enumerate(places.select("dataset", "class_id").iter_rows())}

    def index(self) -> str:
        """Models, ways to answer, classes, outcomes, and for every image its id, its class and each model's outcome."""
        images = [
            [one[0]["image_id"], self._number(one[0], one[0]["class_id"]), *(kind(row) for row in one)]
            for one in self.answers
        ]
        return embedded(
            {
                "models": list(self.titles.values()),
                "ways": self.ways,
                "classes": self.classes,
                "kinds": KINDS,
                "chunk": CHUNK,
                "images": images,
            }
        )

    def names(self) -> list[str]:
        """Names of the classes, each once even where several data sets have it."""
        return list(dict.fromkeys(str(one["name"]) for one in self.classes))

    def chunks(self) -> list[str]:
        """Pictures and answers, CHUNK images each, in the order of the index."""
        with bar("pictures", len(self.answers), "images") as advance:
            records = [self._record(one, advance) for one in self.answers]
        return [embedded(records[start : start + CHUNK]) for start in range(0, len(records), CHUNK)]

    def _number(self, row: dict[str, Any], class_id: int | None) -> int | None:
        return None if class_id is None else self._place[row["dataset"], class_id]

    def _record(self, one: Answers, advance: Advance) -> dict[str, Any]:
        picture = data_uri(self.pictures[one[0]["image_id"]])
        advance()
        return {"picture": picture, "answers": [self._answer(row) for row in one]}

    def _answer(self, row: dict[str, Any]) -> dict[str, Any]:
        votes = Counter(class_id for class_id in row["draws"] if class_id is not None)
        return {
            "draws": len(row["draws"]),
            "votes": [[self._number(row, class_id), count] for class_id, count in votes.most_common()],
            "options": [self._number(row, option["class_id"]) for option in row["options"]],
            "letter": row["letter"],
            "status": row["status"],
            "text": row["choice_text"],
            "probability": None if row["choice_probability"] is None else round(row["choice_probability"], 3),
            **{name: self._number(row, row[name]) for name, _ in self.ways},
        }
