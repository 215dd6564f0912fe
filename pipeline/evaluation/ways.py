"""The registry of the ways to answer, in the order in which every table, page and command shows them.

To add one, append an entry to WAYS. Its expressions are over the columns of `prepare`, one row for each prediction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from pipeline.method.votes import NONE, matrix, running_vote

NOTHING = pl.lit(0)

OPTION_IDS = pl.col("options").list.eval(pl.element().struct.field("class_id"))
TRUTH_OFFERED = OPTION_IDS.list.contains(pl.col("class_id")).fill_null(False)
"""Whether the truth is among the options."""

DRAWS = pl.col("draws").list.len()
VOTE_SHARE = pl.col("options").list.eval(pl.element().struct.field("votes")).list.max().fill_null(0) / DRAWS.clip(
    lower_bound=1
)
"""Share of the draws that name the class with the most votes."""

DRAW_TOKENS = pl.col("draw_tokens").list.sum()
SECOND_STEP = pl.col("choice_text").is_not_null()


@dataclass(frozen=True)
class Way:
    """A way to answer, or a bound of all of them.

    Attributes:
        name: in JSON and CSV files; "pass@1", "two_step" …
        title: on the page and on cards.
        label: in tables of the terminal.
        needs: what a model must have done: given one answer, made a choice among options, or drawn several times.
        answer: the class answered, null for none; None for a way that gives no single class.
        score: between 0 and 1 for each image, for a way without an answer. With one, the score is whether it is right.
        is_bound: an upper bound: no answer from the same draws can score higher.
        headline: whether it stands in reports/metrics.json.
        confidence: of the answer, between 0 and 1; None for a way without one.
        tokens: generated tokens for an image; None leaves the way out of the table of costs.
        draws, questions: draws and second questions for an image.
        meaning: what it is, in a few words, for the page.
    """

    name: str
    title: str
    label: str
    needs: Literal["answer", "choice", "draws"]
    answer: pl.Expr | None = None
    score: pl.Expr | None = None
    is_bound: bool = False
    headline: bool = False
    confidence: pl.Expr | None = None
    tokens: pl.Expr | None = None
    draws: pl.Expr = DRAWS
    questions: pl.Expr = NOTHING
    meaning: str = ""

    @property
    def is_binary(self) -> bool:
        """Whether each image is right or wrong, so that accuracies are shares of images; pass@1 is a mean of shares."""
        return self.answer is not None or self.is_bound

    @property
    def scored(self) -> pl.Expr:
        """The score as an expression called `name`. A null answer is a wrong one."""
        if self.answer is not None:
            return (self.answer == pl.col("class_id")).fill_null(False).cast(pl.Float64).alias(self.name)
        assert self.score is not None
        return self.score.cast(pl.Float64).alias(self.name)


WAYS: list[Way] = [
    Way(
        "pass@1",
        "A single draw (pass@1)",
        "pass@1",
        "draws",
        score=pl.col("right_draws") / DRAWS,
        headline=True,
        tokens=pl.col("draw_tokens").list.mean(),
        draws=pl.lit(1),
        meaning="the mean over all draws",
    ),
    Way(
        "one_step",
        "One-step",
        "one-step",
        "answer",
        answer=pl.col("one_step"),
        headline=True,
        confidence=pl.col("greedy_probability"),
        tokens=pl.col("greedy_tokens"),
        draws=pl.lit(1),
        meaning="the greedy answer to the open question",
    ),
    Way(
        "vote",
        "Vote",
        "vote",
        "draws",
        answer=pl.col("vote"),
        headline=True,
        confidence=VOTE_SHARE,
        tokens=DRAW_TOKENS,
        meaning="the class that most draws name",
    ),
    Way(
        "two_step",
        "Two-step",
        "two-step",
        "choice",
        answer=pl.col("two_step"),
        headline=True,
        # A single option is the answer without a question: its confidence is its share of the votes.
        confidence=pl.when(SECOND_STEP).then("choice_probability").otherwise(VOTE_SHARE),
        tokens=DRAW_TOKENS + pl.col("choice_tokens"),
        questions=SECOND_STEP,
        meaning="the model’s choice among the classes that it named most often",
    ),
    Way(
        "cascade",
        "Cascade",
        "cascade",
        "draws",
        answer=pl.when("vote_is_sure").then("vote").otherwise("two_step"),
        tokens=DRAW_TOKENS + pl.when("vote_is_sure").then(0).otherwise("choice_tokens"),
        questions=SECOND_STEP & ~pl.col("vote_is_sure"),
        meaning="the vote where its share is high enough, two-step elsewhere",
    ),
    Way(
        "rotated",
        "Two-step, rotated",
        "rotated",
        "draws",
        answer=pl.col("rotated_vote"),
        tokens=DRAW_TOKENS + pl.col("choice_tokens") + pl.col("rotated_tokens").list.sum(),
        questions=SECOND_STEP.cast(pl.Int64) * (1 + pl.col("rotated").list.len()),
        meaning="a vote over the choices among several orders of the options",
    ),
    Way(
        "oracle",
        "Truth among the options",
        "options",
        "answer",
        score=TRUTH_OFFERED,
        is_bound=True,
        meaning="the upper bound of every choice among these options",
    ),
    Way(
        "pass@K",
        "Truth among the draws (pass@K)",
        "pass@K",
        "draws",
        score=pl.col("right_draws") > 0,
        is_bound=True,
        headline=True,
        meaning="at least one draw is right: the upper bound of every answer made from these draws",
    ),
]


def names() -> list[str]:
    """The names of all ways, in order."""
    return [way.name for way in WAYS]


def way(name: str) -> Way:
    """The way of this name; KeyError where there is none."""
    return {one.name: one for one in WAYS}[name]


def answering() -> list[Way]:
    """The ways that answer with a single class."""
    return [way for way in WAYS if way.answer is not None]


def measured(predictions: pl.DataFrame) -> list[Way]:
    """The ways to answer that one model has, by what it did: answered, chose among options, drew.

    Args:
        predictions: of one model.
    """
    if predictions["draws"].list.len().sum():
        return list(WAYS)
    chose = predictions["choice_text"].is_not_null().any()
    return [way for way in WAYS if way.needs == "answer" or (chose and way.needs == "choice")]


def prepare(predictions: pl.DataFrame, vote_thresholds: Mapping[str, float] = {}) -> pl.DataFrame:
    """The table of predictions with the further columns that the ways' expressions need.

    right_draws: how many draws name the truth; vote_is_sure: whether the share of the votes reaches the threshold;
    rotated_vote: the vote over the choices in all orders, null where none could be parsed.

    Args:
        vote_thresholds: by model the smallest share of the votes at which the cascade takes the vote; a model without
            one always answers in two steps.
    """
    draws, truth = matrix(predictions["draws"]), predictions["class_id"].to_numpy()
    orders = matrix(predictions.select(pl.concat_list("two_step", "rotated")).to_series())
    threshold = pl.col("model").replace_strict(dict(vote_thresholds), default=None, return_dtype=pl.Float64)
    return predictions.with_columns(
        pl.Series("right_draws", (draws == truth[:, None]).sum(axis=1), pl.Int64),
        pl.Series("rotated_vote", running_vote(orders)[:, -1]).replace(NONE, None),
        (threshold <= VOTE_SHARE).fill_null(False).alias("vote_is_sure"),
    )
