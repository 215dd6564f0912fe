"""The filter: an image whose draws name the true class only has nothing to teach."""

import polars as pl

KEPT, TRUTH_ONLY, NO_VALID_DRAW = "kept", "draws_name_the_truth_only", "no_draw_names_a_class"
ONE_OPTION = "one_option_only"  # options.mass leaves the truth alone, or there is no other class
REASONS = (KEPT, TRUTH_ONLY, NO_VALID_DRAW, ONE_OPTION)


def reasons(questions: pl.DataFrame) -> pl.Series:
    """For each row of the table of questions one of REASONS: KEPT, or why it is dropped."""
    return questions.select(
        pl.when(pl.col("valid_draws") == 0)
        .then(pl.lit(NO_VALID_DRAW))
        .when(pl.col("truth_votes") == pl.col("valid_draws"))
        .then(pl.lit(TRUTH_ONLY))
        .when(pl.col("options").list.len() < 2)
        .then(pl.lit(ONE_OPTION))
        .otherwise(pl.lit(KEPT))
        .alias("reason")
    )["reason"]


def hard_questions(questions: pl.DataFrame) -> pl.DataFrame:
    """The questions that are kept."""
    return questions.filter(reasons(questions) == KEPT)
