"""Predictions made by hand, whose metrics are known."""

import polars as pl

from pipeline.core import tables


def prediction(image, subset, truth, draws, one_step, vote, two_step, options=(0, 1), asked=True, model="base"):
    return {
        "model": model,
        "image_id": image,
        "split": "test",
        "dataset": "x",
        "class_id": truth,
        "subset": subset,
        "greedy_text": "",
        "greedy_status": "ok",
        "greedy_tokens": 5,
        "draws": draws,
        "draw_statuses": ["off_list" if c is None else "ok" for c in draws],
        "draw_texts": ["<answer>dodo</answer>" for _ in draws],
        "draw_tokens": [5 for _ in draws],
        "options": [{"class_id": c, "name": str(c), "votes": 1, "rank": 1, "source": "draws"} for c in options],
        "choice_text": "text" if asked else None,
        "choice_tokens": 30 if asked else 0,
        "rotated": [],
        "rotated_tokens": [],
        "letter": "A",
        "status": "ok" if two_step is not None else "no_answer",
        "one_step": one_step,
        "vote": vote,
        "two_step": two_step,
    }


def frame(*rows):
    return pl.DataFrame(list(rows), schema=tables.PREDICTIONS.schema)


ROWS = (
    prediction("a", "base", 0, [0, 0, 1, None], 0, 0, 0),
    prediction("b", "base", 1, [0, 0, 0, 0], 0, 0, None),
    prediction("c", "novel", 2, [2, 3, 3, 3], None, 3, 2, options=(3, 2)),
    prediction("d", "novel", 3, [2, 2, 2, 2], 2, 2, 2, options=(2,), asked=False),
)
