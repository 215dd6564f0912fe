"""The test images of the report: a short index that the page filters by, and the answers in chunks that it opens."""

import base64
import io
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import polars as pl

from pipeline.core.params import UserError
from pipeline.core.progress import Advance, bar

CHUNK = 50  # images
LARGEST_SIDE = 224  # pixels; larger pictures are embedded smaller
QUALITY = 80

KINDS = ("right", "wrong letter", "not offered", "unreadable")
"""How two steps ended: the numbers of these stand in the index."""

Answers = Sequence[dict[str, Any]]
"""The rows of predictions for one test image, one per model, the base model's first."""


def by_image(predictions: pl.DataFrame, models: Sequence[str]) -> list[Answers]:
    """The answers to every image that all `models` answered, sorted by image."""
    found: dict[str, dict[str, Any]] = {}
    for row in predictions.sort("image_id").iter_rows(named=True):
        found.setdefault(row["image_id"], {})[row["model"]] = row
    return [[rows[model] for model in models] for rows in found.values() if set(models) <= set(rows)]


def kind(row: dict[str, Any]) -> int:
    """The number in KINDS of what two steps came to."""
    if row["two_step"] is None:
        return 3
    if row["two_step"] == row["class_id"]:
        return 0
    return 1 if any(option["class_id"] == row["class_id"] for option in row["options"]) else 2


def data_uri(image: bytes) -> str:
    """The picture inside an address, as WebP and at most LARGEST_SIDE wide and high; "" where there is none."""
    from PIL import Image

    if not image:
        return ""
    picture, buffer = Image.open(io.BytesIO(image)).convert("RGB"), io.BytesIO()
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    picture.save(buffer, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def embedded(value: object) -> str:
    """JSON that can stand inside a script element: what a model wrote cannot end it, nor open a comment in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


class Gallery:
    """What the page embeds of the test images.

    Args:
        predictions: of the split "test".
        images: the table of images with their bytes, at least of those that were answered.
        titles: of the models, in the order shown; the last is the one that filters are about.
    """

    def __init__(self, predictions: pl.DataFrame, classes: pl.DataFrame, images: pl.DataFrame, titles: dict[str, str]):
        self.titles = titles
        self.answers = by_image(predictions, list(titles))
        self.pictures = dict(images.select("image_id", "image").iter_rows())
        lacking = sum(one[0]["image_id"] not in self.pictures for one in self.answers)
        if lacking or not self.answers:
            found = (
                f"{len(self.answers)} images that {' and '.join(titles)} answered, {lacking} of them without picture"
            )
            raise UserError(f"predictions: found {found}, wanted all of one run; `dvc repro report` makes them")
        places = classes.select("dataset", "class_id", "name", "subset")
        self.classes = [{"dataset": d, "name": name, "subset": subset} for d, _, name, subset in places.iter_rows()]
        self._place = {key: number for number, key in enumerate(places.select("dataset", "class_id").iter_rows())}

    def index(self) -> str:
        """Models, classes, kinds of outcome, and of every image its id, its class and each model's kind."""
        images = [
            [one[0]["image_id"], self._number(one[0], one[0]["class_id"]), *(kind(row) for row in one)]
            for one in self.answers
        ]
        return embedded(
            {
                "models": list(self.titles.values()),
                "classes": self.classes,
                "kinds": KINDS,
                "chunk": CHUNK,
                "images": images,
            }
        )

    def names(self) -> list[str]:
        """Names of the classes, each once though several data sets may have it."""
        return list(dict.fromkeys(str(one["name"]) for one in self.classes))

    def chunks(self) -> list[str]:
        """Pictures and answers, CHUNK images each, in the order of the index."""
        with bar("pictures", len(self.answers), "images") as advance:
            shown = [self._shown(one, advance) for one in self.answers]
        return [embedded(shown[start : start + CHUNK]) for start in range(0, len(shown), CHUNK)]

    def _number(self, row: dict[str, Any], class_id: int | None) -> int | None:
        return None if class_id is None else self._place[row["dataset"], class_id]

    def _shown(self, one: Answers, advance: Advance) -> dict[str, Any]:
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
            "sure": None if row["choice_probability"] is None else round(row["choice_probability"], 3),
            **{arm: self._number(row, row[arm]) for arm in ("one_step", "vote", "two_step")},
        }
