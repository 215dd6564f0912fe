"""The tables behind the plots: accuracy by number of draws, cost, letters, confidence, classes mixed up."""

from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.evaluation import metrics
from pipeline.evaluation.confidence import BINS, CONFIDENCES, confidences, isotonic, risk_coverage
from pipeline.evaluation.metrics import SUBSETS, VOTE_SHARE
from pipeline.method.early_stop import LOOK_EVERY, draws_until_decided, draws_until_settled
from pipeline.method.votes import NONE, Ints, fewest_holding, leaders, matrix, running_rank, running_vote

DIGITS = 4
SHUFFLES = 5  # orders of the draws over which sub-samples are averaged
CONFIDENCE_LEVELS = (0.8, 0.9, 0.95, 0.99)
WORST = 12  # classes in the confusion plot
COVERAGES = np.linspace(0.05, 1, 20)


def _by_model(predictions: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    return [(str(model), rows) for (model,), rows in predictions.group_by("model", maintain_order=True)]


def _halves(rows: pl.DataFrame) -> dict[str, np.ndarray]:
    found = {subset: (rows["subset"] == subset).to_numpy() for subset in SUBSETS}
    return {subset: of for subset, of in found.items() if of.any()}


Sets = list[NDArray[np.int64]]
"""Row numbers of each data set."""


def _parts(rows: pl.DataFrame) -> dict[str, Sets]:
    """By part that has images, its rows: "base", "novel", "total"; and of several data sets each, as "base_cub"."""
    numbered = rows.select("dataset", "subset").with_row_index("row")
    found: dict[str, Sets] = {}
    for part in (*SUBSETS, "total"):
        of = numbered if part == "total" else numbered.filter(subset=part)
        sets = {
            str(name): block["row"].to_numpy()
            for (name,), block in of.sort("dataset", "row").group_by("dataset", maintain_order=True)
        }
        if sets:
            found[part] = list(sets.values())
        if rows["dataset"].n_unique() > 1:
            found |= {f"{part}_{name}": [block] for name, block in sets.items()}
    return found


def _mean(scores: NDArray[Any], sets: Sets) -> Any:
    """Mean over the first axis; several data sets count alike, as in `metrics.by_part`."""
    return np.mean([scores[rows].mean(axis=0) for rows in sets], axis=0)


def _rounded(rows: list[dict[str, object]]) -> pl.DataFrame:
    table = pl.DataFrame(rows, infer_schema_length=None)
    return table.with_columns(pl.selectors.float().round(DIGITS))


def by_draws(predictions: pl.DataFrame, topk: int, mass: float = 1.0) -> pl.DataFrame:
    """One row for every number of draws that each image has: what so many would have given, by model and part.

    pass_: the unbiased estimate of one right draw; vote_ and oracle_: the vote, and the truth among the options that
    `topk` and `mass` allow, as means over five random sub-samples of the same draws. The number of images of a part is
    that of metrics.json.
    """
    found: dict[str, np.ndarray] = {}
    count = int(predictions["draws"].list.len().min() or 0)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    for model, rows in _by_model(predictions):
        rows = rows.with_columns(pl.col("draws").list.head(count))
        draws, truths = matrix(rows["draws"]), rows["class_id"].to_numpy()
        right = metrics.right_draws(rows).to_numpy()
        table = np.array([[metrics.pass_at_k(count, c, k) for k in range(1, count + 1)] for c in range(count + 1)])
        votes, oracles = np.zeros(draws.shape), np.zeros(draws.shape)
        for _ in range(SHUFFLES):
            shuffled = rng.permuted(draws, axis=1)
            ranks, size = running_rank(shuffled, truths), np.full(draws.shape, topk)
            if mass < 1:
                size = fewest_holding(leaders(shuffled, topk), (shuffled != NONE).cumsum(axis=1), mass)
            votes += (running_vote(shuffled) == truths[:, None]) / SHUFFLES
            oracles += ((ranks > 0) & (ranks <= size)) / SHUFFLES
        for part, sets in _parts(rows).items():
            for name, scores in (("pass", table[right]), ("vote", votes), ("oracle", oracles)):
                found[f"{name}_{model}_{part}"] = _mean(scores, sets)
    numbers = np.arange(1, count + 1)
    return pl.DataFrame({"draws": numbers, **found}).with_columns(pl.selectors.float().round(DIGITS))


EARLY_STOPS = {
    **dict.fromkeys(("model", "rule"), pl.String),
    "draws_saved": pl.Float64,
    "same_vote": pl.Float64,
    **{f"{arm}_{subset}": pl.Float64 for subset in SUBSETS for arm in ("vote", "two_step")},
    **{f"n_{subset}": pl.Int64 for subset in SUBSETS},
}


def early_stops(predictions: pl.DataFrame, topk: int, mass: float = 1.0) -> pl.DataFrame:
    """One row for every model and rule to stop drawing early: draws saved, and what it costs in accuracy.

    As `predict` would have it, which looks after every few draws. same_vote: share of images whose vote is that of all
    K draws. vote: share right with the draws until then. two_step: at least this share is right, since the letter is
    only known where the options that were shown hold the choice made then, or one option is left. A model whose draws
    were stopped early tells nothing of what fewer would have given, and has no rows.
    """
    found: list[dict[str, object]] = []
    for model, rows in _by_model(predictions):
        if rows["draws"].list.len().n_unique() > 1:
            continue
        draws, truths = matrix(rows["draws"]), rows["class_id"].to_numpy()
        chosen = rows["two_step"].fill_null(NONE).to_numpy()
        counts, vote, rank = leaders(draws, topk + 1), running_vote(draws), running_rank(draws, chosen)
        cast = (draws != NONE).cumsum(axis=1)
        size = fewest_holding(counts[:, :, :topk], cast, mass)
        answer = np.where(size == 1, vote, np.where((rank > 0) & (rank <= size), chosen[:, None], NONE))
        rules = {"never": np.full(len(draws), draws.shape[1])}
        if mass == 1:  # with a share of the votes no order is settled before the last draw
            rules["order"] = draws_until_settled(counts, LOOK_EVERY)
        rules |= {f"vote {level}": draws_until_decided(counts, level, LOOK_EVERY) for level in CONFIDENCE_LEVELS}
        parts = _parts(rows)
        for name, stop in rules.items():
            last = (np.arange(len(draws)), stop - 1)
            row: dict[str, object] = {
                "model": model,
                "rule": name,
                "draws_saved": 1 - float(_mean(stop, parts["total"])) / draws.shape[1],
                "same_vote": float(_mean(vote[last] == vote[:, -1], parts["total"])),
            }
            for subset in SUBSETS:
                if subset in parts:
                    row[f"vote_{subset}"] = float(_mean(vote[last] == truths, parts[subset]))
                    row[f"two_step_{subset}"] = float(_mean(answer[last] == truths, parts[subset]))
                row[f"n_{subset}"] = sum(len(block) for block in parts.get(subset, []))
            found.append(row)
    return pl.DataFrame(found, schema=EARLY_STOPS).with_columns(pl.selectors.float().round(DIGITS))


def cost(predictions: pl.DataFrame, vote_thresholds: Mapping[str, float]) -> pl.DataFrame:
    """One row for every model and way to answer: generated tokens per image, questions asked, and accuracy for them.

    right_per_1000_tokens: images right for every 1,000 generated tokens. Reading the prompts is not in it.
    """
    drawn = pl.col("draw_tokens").list.sum()
    rotated = pl.col("rotated_tokens").list.sum()
    found: list[dict[str, object]] = []
    for model, rows in _by_model(predictions):
        scored, sets = metrics.scores(rows, vote_thresholds), _parts(rows)["total"]
        asked = pl.lit(True) if model not in vote_thresholds else vote_thresholds[model] > VOTE_SHARE
        tokens = {
            "one_step": pl.col("greedy_tokens"),
            "pass@1": pl.col("draw_tokens").list.mean(),
            "vote": drawn,
            "cascade": drawn + pl.when(asked).then("choice_tokens").otherwise(0),
            "two_step": drawn + pl.col("choice_tokens"),
            "rotated": drawn + pl.col("choice_tokens") + rotated,
        }
        second = pl.col("choice_text").is_not_null()
        questions = {
            "cascade": second & asked,
            "two_step": second,
            "rotated": second * (1 + pl.col("rotated").list.len()),
        }
        for arm, spent in tokens.items():
            draws = pl.lit(1) if arm in ("one_step", "pass@1") else pl.col("draws").list.len()
            counts = rows.select(
                draws=draws.cast(pl.Float64),
                second_questions=questions.get(arm, pl.lit(0)).cast(pl.Float64),
                generated_tokens=spent.cast(pl.Float64),
            )
            means = {name: float(_mean(counts[name].to_numpy(), sets)) for name in counts.columns}
            right, mean = float(_mean(scored[arm].to_numpy(), sets)), means["generated_tokens"]
            about: dict[str, object] = {"model": model, "answer": arm, "accuracy": right, "n": rows.height}
            found.append(about | means | {"right_per_1000_tokens": 1000 * right / mean if mean else None})
    return _rounded(found)


def letters(predictions: pl.DataFrame) -> pl.DataFrame:
    """One row for every model and letter of the second questions.

    In the order that counts: shown, questions that have the letter; chosen, how often it was; truth, how often the
    truth stood there; right, how often it was chosen then. A model without bias chooses each letter about as often as
    the truth stands there. The same with `_rotated` over all orders that were asked, in which the same options stand at
    each letter in turn, so that right_rotated / truth_rotated compares the letters on the same images.
    """
    found: list[dict[str, object]] = []
    for model, rows in _by_model(predictions.filter(pl.col("choice_text").is_not_null())):
        ids = pl.col("options").list.eval(pl.element().struct.field("class_id"))
        asked = rows.select("class_id", options=ids, answers=pl.concat_list("two_step", "rotated"))
        options, answers = matrix(asked["options"]), matrix(asked["answers"])
        sizes, orders = asked["options"].list.len().to_numpy(), asked["answers"].list.len().to_numpy()
        truth, chosen = (_places(options, sizes, of) for of in (asked["class_id"].to_numpy()[:, None], answers))
        turns = np.arange(answers.shape[1])
        taken = turns < orders[:, None]
        # In each further order the options stand one place further to the left.
        stood, answered = (
            np.where(taken & (place >= 0), (place - turns) % sizes[:, None], NONE) for place in (truth, chosen)
        )
        for place in range(options.shape[1]):
            there, said = stood == place, answered == place
            row: dict[str, object] = {"model": model, "letter": ascii_uppercase[place]}
            for suffix, of in (("", slice(0, 1)), ("_rotated", slice(None))):
                row |= {
                    f"shown{suffix}": int((taken & (sizes[:, None] > place))[:, of].sum()),
                    f"chosen{suffix}": int(said[:, of].sum()),
                    f"truth{suffix}": int(there[:, of].sum()),
                    f"right{suffix}": int((there & said)[:, of].sum()),
                }
            found.append(row)
    return pl.DataFrame(found, schema=LETTERS)


LETTERS = {
    **dict.fromkeys(("model", "letter"), pl.String),
    **{f"{name}{suffix}": pl.Int64 for suffix in ("", "_rotated") for name in ("shown", "chosen", "truth", "right")},
}


def _places(options: Ints, sizes: Ints, classes: Ints) -> Ints:
    """(images, orders): places of the classes, (images, 1 or orders), among the options as first shown; else -1."""
    same = (options[:, None, :] == classes[:, :, None]) & (np.arange(options.shape[1]) < sizes[:, None])[:, None, :]
    return np.where(same.any(axis=2), same.argmax(axis=2), NONE)


def calibration(validation: pl.DataFrame, test: pl.DataFrame) -> pl.DataFrame:
    """One row for every tenth of the images, the least sure first: their mean confidence and the share right.

    Two columns, confidence_ and accuracy_, by way to answer, model and half; with `_fitted` behind the name after the
    isotonic fit on validation images. Tenths, and not steps of confidence, so that each has as many images.
    """
    found: dict[str, np.ndarray] = {}
    for model, rows in _by_model(test):
        before, truth = validation.filter(model=model), metrics.scores(rows)
        for arm in CONFIDENCES:
            sure, known = confidences(rows, arm), confidences(before, arm)
            if sure is None:
                continue
            kinds = {"": sure}
            if known is not None:
                kinds["_fitted"] = isotonic(known, metrics.scores(before)[arm].to_numpy())(sure)
            for kind, values in kinds.items():
                for subset, of in _halves(rows).items():
                    parts = np.array_split(np.argsort(values[of], kind="stable"), BINS)
                    for name, column in (("confidence", values[of]), ("accuracy", truth[arm].to_numpy()[of])):
                        means = [column[part].mean() if len(part) else np.nan for part in parts]
                        found[f"{name}_{arm}_{model}_{subset}{kind}"] = np.array(means)
    table = pl.DataFrame({"tenth": np.arange(1, BINS + 1), **found})
    return table.with_columns(pl.selectors.float().fill_nan(None).round(DIGITS))


def risks(test: pl.DataFrame) -> pl.DataFrame:
    """One row for every twentieth of coverage: of so many answers, the surest, the share that is wrong.

    By way to answer, model and half. Among equally sure answers the mean counts.
    """
    found: dict[str, np.ndarray] = {"coverage": COVERAGES}
    for model, rows in _by_model(test):
        scored = metrics.scores(rows)
        for arm in CONFIDENCES:
            sure = confidences(rows, arm)
            if sure is None:
                continue
            for subset, of in _halves(rows).items():
                coverage, risk = risk_coverage(sure[of], scored[arm].to_numpy()[of])
                wrong = np.interp(COVERAGES, np.append(0, coverage), np.append(0, risk * coverage))
                found[f"{arm}_{model}_{subset}"] = wrong / COVERAGES
    return pl.DataFrame(found).with_columns(pl.selectors.float().round(DIGITS))


def by_class(predictions: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """One row for every class with images: their number and each model's share right, by way to answer."""
    arms = ("one_step", "vote", "two_step")
    found = classes.select("dataset", "class_id", "name")
    for model, rows in _by_model(predictions):
        known = [arm for arm in arms if arm in metrics.measured(rows)]
        means = (
            metrics.scores(rows)
            .group_by("dataset", "subset", "class_id")
            .agg(pl.len().alias("n"), *(pl.col(arm).mean().round(DIGITS).alias(f"{arm}_{model}") for arm in known))
        )
        keys = [name for name in ("dataset", "class_id", "subset", "n") if name in found.columns]
        found = found.join(means, on=keys, how="inner")
    return found.select(
        "dataset", "name", "subset", "n", pl.exclude("dataset", "name", "subset", "n", "class_id")
    ).sort("dataset", "subset", "name")


def confusion(predictions: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """One row for every image of the twelve classes mixed up most often that was taken for one of them."""
    names = classes.select("dataset", "class_id", "name")
    pairs = (
        predictions.select("dataset", "class_id", answer="two_step")
        .drop_nulls()
        .join(names, on=["dataset", "class_id"])
        .join(names, left_on=["dataset", "answer"], right_on=["dataset", "class_id"], suffix="_answer")
        .select("dataset", actual="name", predicted="name_answer")
    )
    mixed = (
        pairs.filter(pl.col("actual") != pl.col("predicted"))
        .group_by("dataset", "actual", "predicted")
        .len()
        .sort("len", "dataset", "actual", "predicted", descending=[True, False, False, False])
    )
    shown = list(dict.fromkeys(name for row in mixed.select("actual", "predicted").rows() for name in row))[:WORST]
    return pairs.filter(pl.col("actual").is_in(shown), pl.col("predicted").is_in(shown)).sort("actual", "predicted")
