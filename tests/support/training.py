"""Questions, completions, classes and settings that the tests of training share."""

import polars as pl
from support.project import ROOT

from pipeline.core import tables
from pipeline.core.params import load_params
from pipeline.method.class_lists import ClassLists
from pipeline.training.params import TrainParams

DEFAULTS = load_params(TrainParams, ROOT / "params.yaml")


def question(truth, *options, image="x"):
    """A row of the table of hard questions."""
    return {
        "image_id": image,
        "dataset": "d",
        "class_id": truth,
        "options": [{"class_id": c, "name": str(c), "votes": 1, "rank": 1, "source": "draws"} for c in options],
        "answer": "A",
        "truth_rank": 1,
        "truth_votes": 1,
        "valid_draws": 2,
        "distinct": 2,
    }


def questions(*rows):
    return pl.DataFrame(list(rows), tables.HARD.schema)


def completion(image, text, letter=1.0, form=1.0, advantage=0.5):
    """A completion as the trainer records it."""
    rewards = {"letter_reward": letter, "format_reward": form}
    return {"image_id": image, "options": ["wren", "owl"], "text": text, "rewards": rewards, "advantage": advantage}


CLASSES = [
    (0, "Arctic Tern", "base", ["Sterna paradisaea"]),
    (1, "Common Tern", "base", []),
    (2, "Owl", "novel", []),
]
LISTS = ClassLists(
    pl.DataFrame(
        [
            {"dataset": "d", "class_id": c, "name": name, "subset": subset, "aliases": aliases, "noun": "bird"}
            for c, name, subset, aliases in CLASSES
        ],
        schema=tables.CLASSES.schema,
    )
)
