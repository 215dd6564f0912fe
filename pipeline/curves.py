"""The tables behind the plots: accuracy by number of draws, cost, letters, confidence, classes mixed up."""

from collections.abc import Mapping
from string import ascii_uppercase

import numpy as np
import polars as pl

from pipeline import metrics
from pipeline.confidence import BINS, CONFIDENCES, confidences, isotonic, risk_coverage
from pipeline.metrics import HALVES, VOTE_SHARE
from pipeline.votes import NONE, decided, leaders, matrix, running_rank, running_vote, settled

DIGITS = 4
SHUFFLES = 5  # orders of the draws over which sub-samples are averaged
CONFIDENCE_LEVELS = (0.8, 0.9, 0.95, 0.99)
WORST = 12  # classes in the confusion plot
COVERAGES = np.linspace(0.05, 1, 20)


def _by_model(predictions: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    return [(str(model), rows) for (model,), rows in predictions.group_by("model", maintain_order=True)]


def _halves(rows: pl.DataFrame) -> dict[str, np.ndarray]:
    found = {half: (rows["half"] == half).to_numpy() for half in HALVES}
    return {half: of for half, of in found.items() if of.any()}


def _rounded(rows: list[dict[str, object]]) -> pl.DataFrame:
    table = pl.DataFrame(rows, infer_schema_length=None)
    return table.with_columns(pl.selectors.float().round(DIGITS))


def by_draws(predictions: pl.DataFrame, topk: int) -> pl.DataFrame:
    """One row for every number of draws that each image has: what so many would have given, by model and half.

    pass_: the unbiased estimate of one right draw; vote_ and oracle_: the vote, and the truth among the `topk` options,
    as means over five random sub-samples of the same draws.
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
            ranks = running_rank(shuffled, truths)
            votes += (running_vote(shuffled) == truths[:, None]) / SHUFFLES
            oracles += ((ranks > 0) & (ranks <= topk)) / SHUFFLES
        for half, of in _halves(rows).items():
            for name, scores in (("pass", table[right]), ("vote", votes), ("oracle", oracles)):
                found[f"{name}_{model}_{half}"] = scores[of].mean(axis=0)
    numbers = np.arange(1, count + 1)
    return pl.DataFrame({"draws": numbers, **found}).with_columns(pl.selectors.float().round(DIGITS))


def early_stops(predictions: pl.DataFrame, topk: int) -> pl.DataFrame:
    """One row for every model and rule to stop drawing early: draws saved, and what it costs in accuracy.

    vote: as the share of images right with the draws until then. two_step: at least this share is right, since the
    letter is only known where the options that were shown hold the choice made then, or one option is left.
    """
    found: list[dict[str, object]] = []
    for model, rows in _by_model(predictions):
        draws, truths = matrix(rows["draws"]), rows["class_id"].to_numpy()
        chosen = rows["two_step"].fill_null(NONE).to_numpy()
        counts, vote, rank = leaders(draws, topk + 1), running_vote(draws), running_rank(draws, chosen)
        alone = (counts[:, :, 1] == 0) & (vote != NONE)
        letter = np.where((rank > 0) & (rank <= topk), chosen[:, None], NONE)
        answer = np.where(alone, vote, letter)
        rules = {"never": np.full(len(draws), draws.shape[1]), "order": settled(counts)}
        rules |= {f"vote {level}": decided(counts, level) for level in CONFIDENCE_LEVELS}
        for name, stop in rules.items():
            last = (np.arange(len(draws)), stop - 1)
            row: dict[str, object] = {"model": model, "rule": name, "draws_saved": 1 - stop.sum() / draws.size}
            for half, of in _halves(rows).items():
                row[f"vote_{half}"] = (vote[last] == truths)[of].mean()
                row[f"two_step_{half}"] = (answer[last] == truths)[of].mean()
            found.append(row)
    return _rounded(found)


def cost(predictions: pl.DataFrame, gates: Mapping[str, float]) -> pl.DataFrame:
    """One row for every model and way to answer: generated tokens per image, questions asked, and accuracy for them.

    right_per_1000_tokens: images right for every 1,000 generated tokens. Reading the prompts is not in it.
    """
    drawn = pl.col("draw_tokens").list.sum()
    turned = pl.col("turned_tokens").list.sum()
    found: list[dict[str, object]] = []
    for model, rows in _by_model(predictions):
        scored = metrics.scores(rows, gates)
        asked = pl.lit(True) if model not in gates else gates[model] > VOTE_SHARE
        tokens = {
            "one_step": pl.col("greedy_tokens"),
            "pass@1": pl.col("draw_tokens").list.mean(),
            "vote": drawn,
            "gated": drawn + pl.when(asked).then("choice_tokens").otherwise(0),
            "two_step": drawn + pl.col("choice_tokens"),
            "turned": drawn + pl.col("choice_tokens") + turned,
        }
        second = pl.col("choice_text").is_not_null()
        questions = {"gated": second & asked, "two_step": second, "turned": second * (1 + pl.col("turned").list.len())}
        for arm, spent in tokens.items():
            mean = float(rows.select(spent.mean()).item() or 0.0)
            right = float(scored[arm].mean() or 0.0)  # type: ignore[arg-type]
            found.append(
                {
                    "model": model,
                    "answer": arm,
                    "accuracy": right,
                    "draws": 1.0 if arm in ("one_step", "pass@1") else rows["draws"].list.len().mean(),
                    "second_questions": float(
                        rows.select(questions.get(arm, pl.lit(0)).cast(pl.Float64).mean()).item()
                    ),
                    "generated_tokens": mean,
                    "right_per_1000_tokens": 1000 * right / mean if mean else None,
                }
            )
    return _rounded(found)


def letters(predictions: pl.DataFrame) -> pl.DataFrame:
    """One row for every model and letter of the second questions, in the order that counts.

    shown: questions that have the letter; chosen: how often it was; truth: how often the truth stood there; right: how
    often it was chosen then. A model without bias chooses each letter about as often as the truth stands there.
    """
    found: list[dict[str, object]] = []
    for model, rows in _by_model(predictions.filter(pl.col("choice_text").is_not_null())):
        ids = pl.col("options").list.eval(pl.element().struct.field("class_id"))
        asked = rows.select(
            "letter",
            shown=pl.col("options").list.len(),
            options=ids,
            truth="class_id",
        )
        options, truths = matrix(asked["options"]), asked["truth"].to_numpy()
        chosen = asked["letter"].to_numpy()
        for place in range(options.shape[1]):
            sign, there = ascii_uppercase[place], options[:, place] == truths
            found.append(
                {
                    "model": model,
                    "letter": sign,
                    "shown": int((asked["shown"] > place).sum()),
                    "chosen": int((chosen == sign).sum()),
                    "truth": int(there.sum()),
                    "right": int((there & (chosen == sign)).sum()),
                }
            )
    schema = {"model": pl.String, "letter": pl.String} | dict.fromkeys(("shown", "chosen", "truth", "right"), pl.Int64)
    return pl.DataFrame(found, schema=schema)


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
                for half, of in _halves(rows).items():
                    parts = np.array_split(np.argsort(values[of], kind="stable"), BINS)
                    for name, column in (("confidence", values[of]), ("accuracy", truth[arm].to_numpy()[of])):
                        means = [column[part].mean() if len(part) else np.nan for part in parts]
                        found[f"{name}_{arm}_{model}_{half}{kind}"] = np.array(means)
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
            for half, of in _halves(rows).items():
                coverage, risk = risk_coverage(sure[of], scored[arm].to_numpy()[of])
                wrong = np.interp(COVERAGES, np.append(0, coverage), np.append(0, risk * coverage))
                found[f"{arm}_{model}_{half}"] = wrong / COVERAGES
    return pl.DataFrame(found).with_columns(pl.selectors.float().round(DIGITS))


def by_class(predictions: pl.DataFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """One row for every class with images: their number and each model's share right, by way to answer."""
    arms = ("one_step", "vote", "two_step")
    found = classes.select("dataset", "class_id", "name")
    for model, rows in _by_model(predictions):
        known = [arm for arm in arms if arm in metrics.measured(rows)]
        means = (
            metrics.scores(rows)
            .group_by("dataset", "half", "class_id")
            .agg(pl.len().alias("n"), *(pl.col(arm).mean().round(DIGITS).alias(f"{arm}_{model}") for arm in known))
        )
        keys = [name for name in ("dataset", "class_id", "half", "n") if name in found.columns]
        found = found.join(means, on=keys, how="inner")
    return found.select("dataset", "name", "half", "n", pl.exclude("dataset", "name", "half", "n", "class_id")).sort(
        "dataset", "half", "name"
    )


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
