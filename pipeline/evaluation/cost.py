"""What each way to answer costs in generated tokens."""

import polars as pl

from pipeline.evaluation.groups import by_model, group_mean, round_floats, row_groups
from pipeline.evaluation.scoring import ScoredPredictions
from pipeline.evaluation.ways import WAYS


def cost(scored: ScoredPredictions) -> pl.DataFrame:
    """One row for every model that draws and every way to answer with `tokens`: accuracy and cost per image.

    draws, second_questions, generated_tokens: means over the images; prompt tokens are not counted.
    right_per_1000_tokens: images answered correctly for every 1,000 generated tokens.
    """
    table: list[dict[str, object]] = []
    for model, rows in by_model(scored.with_draws):
        scores, images = scored.scores.filter(model=model), row_groups(rows)["total"]
        for way in WAYS:
            if way.tokens is None:
                continue
            columns = {"draws": way.draws, "second_questions": way.questions, "generated_tokens": way.tokens}
            counts = rows.select(**{name: column.cast(pl.Float64) for name, column in columns.items()})
            means = {name: float(group_mean(counts[name].to_numpy(), images)) for name in counts.columns}
            accuracy, tokens = float(group_mean(scores[way.name].to_numpy(), images)), means["generated_tokens"]
            row: dict[str, object] = {"model": model, "answer": way.name, "accuracy": accuracy, "n": rows.height}
            table.append(row | means | {"right_per_1000_tokens": 1000 * accuracy / tokens if tokens else None})
    return round_floats(pl.DataFrame(table, infer_schema_length=None))
