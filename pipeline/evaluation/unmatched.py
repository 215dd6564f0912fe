"""Answers that the matcher could not match to a class: the first place to look for missing aliases."""

import polars as pl

from pipeline.method.answers import answer_text


def unmatched(samples: pl.DataFrame, predictions: pl.DataFrame) -> pl.DataFrame:
    """Draws that name no class of the image's own subset: source, answer and their number, most frequent first.

    Args:
        samples: the table of samples, of training images.
        predictions: of the split "test".
    """
    draws = predictions.select("model", text="draw_texts", status="draw_statuses").explode("text", "status")
    test = draws.filter(pl.col("status") == "off_list").with_columns(
        source=pl.lit("test draws, ") + pl.col("model"),
        answer=pl.col("text").map_elements(answer_text, return_dtype=pl.String),
    )
    train = samples.filter(pl.col("status") == "off_list").select("answer", source=pl.lit("training draws"))
    return (
        pl.concat([train.select("source", "answer"), test.select("source", "answer")])
        .group_by("source", "answer", maintain_order=True)
        .agg(draws=pl.len())
        .sort("source", "draws", "answer", descending=[False, True, False])
    )
