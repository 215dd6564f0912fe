"""The filter: an image whose draws agree on the true class has nothing to teach."""

import polars as pl

KEPT = "kept"
UNANIMOUS = "every_draw_names_the_truth"
ONE_NAME = "the_truth_is_the_only_class_named"  # and some draws name no class
NO_VALID_DRAW = "no_draw_names_a_class"
ONE_OPTION = "one_option_only"  # options.mass leaves the truth alone, or there is no other class
REASONS = (KEPT, UNANIMOUS, ONE_NAME, NO_VALID_DRAW, ONE_OPTION)

RULES = {"one_name": (UNANIMOUS, ONE_NAME), "unanimous": (UNANIMOUS,), "nothing": ()}
"""By filter.drop what is dropped although it is a question; an image with one option is none."""


def reasons(questions: pl.DataFrame, rule: str = "one_name") -> pl.Series:
    """For each row of the table of questions one of REASONS: KEPT, or why it is dropped.

    Args:
        rule: one of RULES.
    """
    right = pl.col("truth_votes")
    agreement = (
        pl.when(right == pl.col("draws"))
        .then(pl.lit(UNANIMOUS))
        .when((right > 0) & (right == pl.col("valid_draws")))
        .then(pl.lit(ONE_NAME))
    )
    return questions.select(
        pl.when(agreement.is_in(RULES[rule]))
        .then(agreement)
        .when(pl.col("options").list.len() >= 2)
        .then(pl.lit(KEPT))
        .when(pl.col("valid_draws") == 0)
        .then(pl.lit(NO_VALID_DRAW))
        .otherwise(agreement.fill_null(ONE_OPTION))
        .alias("reason")
    )["reason"]


def hard_questions(questions: pl.DataFrame, rule: str = "one_name") -> pl.DataFrame:
    """The questions that are kept by one of RULES."""
    return questions.filter(reasons(questions, rule) == KEPT)
