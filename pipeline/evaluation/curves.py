"""What fewer draws would have given: accuracy by number of draws, and rules to stop drawing early."""

import numpy as np
import polars as pl

from pipeline.evaluation import metrics
from pipeline.evaluation.groups import by_model, group_mean, round_floats, row_groups
from pipeline.evaluation.metrics import SUBSETS
from pipeline.method.early_stop import LOOK_EVERY, draws_until_decided, draws_until_settled
from pipeline.method.votes import NONE, Ints, fewest_holding, leaders, matrix, running_rank, running_vote

SHUFFLES = 5  # orders of the draws over which sub-samples are averaged
CONFIDENCE_LEVELS = (0.8, 0.9, 0.95, 0.99)


def by_draws(prepared: pl.DataFrame, topk: int, mass: float = 1.0) -> pl.DataFrame:
    """One row for every number of draws up to the fewest of any image: what that many would have given.

    Columns by measure, model and subset. pass_: the unbiased estimate of pass@k; vote_ and oracle_: the vote, and the
    truth among the options that `topk` and `mass` allow, as means over five random orders of the same draws. The
    numbers of images are those of details.json.

    Args:
        prepared: predictions with draws, as `ways.prepare` returns them.
    """
    columns: dict[str, np.ndarray] = {}
    count = int(prepared["draws"].list.len().min() or 0)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    for model, rows in by_model(prepared):
        draws, truths = matrix(rows["draws"].list.head(count)), rows["class_id"].to_numpy()
        right = (draws == truths[:, None]).sum(axis=1)
        table = np.array([[metrics.pass_at_k(count, c, k) for k in range(1, count + 1)] for c in range(count + 1)])
        votes, oracles = np.zeros(draws.shape), np.zeros(draws.shape)
        for _ in range(SHUFFLES):
            order = rng.permuted(draws, axis=1)
            ranks, size = running_rank(order, truths), np.full(draws.shape, topk)
            if mass < 1:
                size = fewest_holding(leaders(order, topk), (order != NONE).cumsum(axis=1), mass)
            votes += (running_vote(order) == truths[:, None]) / SHUFFLES
            oracles += ((ranks > 0) & (ranks <= size)) / SHUFFLES
        for subset, groups in row_groups(rows).items():
            for name, scores in (("pass", table[right]), ("vote", votes), ("oracle", oracles)):
                columns[f"{name}_{model}_{subset}"] = group_mean(scores, groups)
    return round_floats(pl.DataFrame({"draws": np.arange(1, count + 1), **columns}))


EARLY_STOPS = {
    **dict.fromkeys(("model", "rule"), pl.String),
    "draws_saved": pl.Float64,
    "same_vote": pl.Float64,
    **{f"{way}_{subset}": pl.Float64 for subset in SUBSETS for way in ("vote", "two_step")},
    **{f"n_{subset}": pl.Int64 for subset in SUBSETS},
}


def early_stops(predictions: pl.DataFrame, topk: int, mass: float = 1.0) -> pl.DataFrame:
    """One row for every model and rule to stop drawing early: the share of draws saved, and the accuracy with it.

    Rules are checked after every few draws, as in `predict`. same_vote: share of images whose vote is that of all K
    draws. vote: accuracy of the vote with the draws until then. two_step: a lower bound of the accuracy, since the
    letter is only known where the options of that moment include the class chosen at the end, or one option is left.
    A model whose draws were stopped early has no rows: its predictions do not show what fewer draws would have given.
    """
    table: list[dict[str, object]] = []
    for model, rows in by_model(predictions):
        if rows["draws"].list.len().n_unique() > 1:
            continue
        draws, truths = matrix(rows["draws"]), rows["class_id"].to_numpy()
        choices, groups = rows["two_step"].fill_null(NONE).to_numpy(), row_groups(rows)
        votes, answers, stops = _answers_by_draws(draws, choices, topk, mass)
        for rule, stop in stops.items():
            last = (np.arange(len(draws)), stop - 1)
            row: dict[str, object] = {
                "model": model,
                "rule": rule,
                "draws_saved": 1 - float(group_mean(stop, groups["total"])) / draws.shape[1],
                "same_vote": float(group_mean(votes[last] == votes[:, -1], groups["total"])),
            }
            for subset in SUBSETS:
                if subset in groups:
                    row[f"vote_{subset}"] = float(group_mean(votes[last] == truths, groups[subset]))
                    row[f"two_step_{subset}"] = float(group_mean(answers[last] == truths, groups[subset]))
                row[f"n_{subset}"] = sum(len(block) for block in groups.get(subset, []))
            table.append(row)
    return round_floats(pl.DataFrame(table, schema=EARLY_STOPS))


def _answers_by_draws(draws: Ints, choices: Ints, topk: int, mass: float) -> tuple[Ints, Ints, dict[str, Ints]]:
    """(images, K) votes and two-step answers after each draw, and by rule (images,) the draws until it stops."""
    counts, votes, rank = leaders(draws, topk + 1), running_vote(draws), running_rank(draws, choices)
    size = fewest_holding(counts[:, :, :topk], (draws != NONE).cumsum(axis=1), mass)
    answers = np.where(size == 1, votes, np.where((rank > 0) & (rank <= size), choices[:, None], NONE))
    stops = {"never": np.full(len(draws), draws.shape[1])}
    if mass == 1:  # with a share of the votes no order is settled before the last draw
        stops["order"] = draws_until_settled(counts, LOOK_EVERY)
    stops |= {f"vote {level}": draws_until_decided(counts, level, LOOK_EVERY) for level in CONFIDENCE_LEVELS}
    return votes, answers, stops
