"""Whether a model prefers some letters: how often each is shown, chosen and right."""

from string import ascii_uppercase

import numpy as np
import polars as pl

from pipeline.evaluation.groups import by_model
from pipeline.evaluation.ways import OPTION_IDS
from pipeline.method.votes import matrix

COUNTS = ("shown", "chosen", "truth", "right")
SUFFIXES = ("", "_rotated")
LETTERS = {
    **dict.fromkeys(("model", "letter"), pl.String),
    **{f"{count}{suffix}": pl.Int64 for suffix in SUFFIXES for count in COUNTS},
}


def letters(predictions: pl.DataFrame) -> pl.DataFrame:
    """One row for every model and letter of the second questions.

    Of the order that gives the two-step answer: shown, questions that have the letter; chosen, how often it was
    chosen; truth, how often it stood for the truth; right, how often both. A model without bias chooses each letter
    about as often as it stands for the truth. The same with `_rotated` over all orders: in these each option stands at
    each letter in turn, so that right_rotated / truth_rotated compares the letters on the same images.
    """
    table: list[dict[str, object]] = []
    for model, rows in by_model(predictions.filter(pl.col("choice_text").is_not_null())):
        questions = rows.select("class_id", options=OPTION_IDS, answers=pl.concat_list("two_step", "rotated"))
        options, answers, truth = (
            matrix(questions["options"]),
            matrix(questions["answers"]),
            questions["class_id"].to_numpy(),
        )
        sizes, orders = (questions[name].list.len().to_numpy() for name in ("options", "answers"))
        images = np.arange(len(questions))
        counts = np.zeros((len(COUNTS), options.shape[1], answers.shape[1]), np.int64)
        for order in range(answers.shape[1]):
            for place in range(options.shape[1]):
                has_letter = (orders > order) & (sizes > place)
                # In each further order the options stand one place further to the left.
                option = options[images, (place + order) % sizes]
                is_choice, is_truth = has_letter & (option == answers[:, order]), has_letter & (option == truth)
                counts[:, place, order] = [
                    column.sum() for column in (has_letter, is_choice, is_truth, is_choice & is_truth)
                ]
        for place in range(options.shape[1]):
            totals = (*counts[:, place, 0], *counts[:, place].sum(axis=1))
            table.append(dict(zip(LETTERS, (model, ascii_uppercase[place], *map(int, totals)), strict=True)))
    return pl.DataFrame(table, schema=LETTERS)
