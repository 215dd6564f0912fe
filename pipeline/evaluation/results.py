"""What evaluate writes: the metrics and details of every model, and the CSV files behind the reports."""

from typing import Any

import polars as pl

from pipeline.core.engine import Engine
from pipeline.core.params import UserError
from pipeline.evaluation import comparison, curves, metrics
from pipeline.evaluation.comparison import Resampled, Way
from pipeline.evaluation.confidence import CONFIDENCES, calibration_error, confidences, isotonic, threshold_for
from pipeline.evaluation.confidence import gate as gate_threshold
from pipeline.evaluation.judge import judge_answers
from pipeline.method.answers import answer_text


def require_same_images(predictions: pl.DataFrame) -> None:
    """Raises UserError unless every model answered the same images, each once and with as many draws.

    Where drawing was stopped early their numbers differ within a model, and may between models. Some models never draw.
    """
    rows = predictions.group_by("model", maintain_order=True).agg("image_id", draws=pl.col("draws").list.len().unique())
    images = [sorted(ids) for ids in rows["image_id"]]
    draws = {tuple(counts) for counts in rows["draws"].to_list() if counts != [0]}
    other_draws = len(draws) > 1 and all(len(counts) == 1 for counts in draws)
    if any(ids != images[0] or len(set(ids)) < len(ids) for ids in images) or other_draws:
        counts = ", ".join(f"{len(ids)} rows of {model}" for model, ids in zip(rows["model"], images, strict=True))
        raise UserError(
            f"data/predictions: found {counts}, not of the same images and draws, wanted each image once per model; "
            "`dvc repro predict` writes them anew"
        )


def vote_thresholds(validation: pl.DataFrame) -> dict[str, float]:
    """By model the vote share from which on no second question is worth asking, as validation images have it."""
    found = {}
    for (model,), rows in validation.group_by("model", maintain_order=True):
        scored, sure = metrics.scores(rows), confidences(rows, "vote")
        if sure is not None:
            found[str(model)] = gate_threshold(sure, scored["vote"].to_numpy(), scored["two_step"].to_numpy())
    return found


def trust(validation: pl.DataFrame, test: pl.DataFrame, precision: float) -> dict[str, Any]:
    """What the confidences of one model are worth, by way to answer.

    Calibration error on test images as it is and after an isotonic fit on validation images, by half; and the
    confidence from which on `precision` of the validation images' answers are right, with the share of test images
    that are as sure (coverage) and of these the share that is right. Nothing where no confidence is known.
    """
    found: dict[str, dict[str, Any]] = {}
    for arm in (arm for arm in CONFIDENCES if arm in metrics.measured(test)):
        known, asked = confidences(validation, arm), confidences(test, arm)
        if known is None or asked is None:
            continue
        right = metrics.scores(validation)[arm].to_numpy()
        calibrated, threshold = isotonic(known, right)(asked), threshold_for(precision, known, right)
        truth, subsets = metrics.scores(test)[arm].to_numpy(), test["subset"].to_numpy()
        found[arm] = {"threshold": threshold if threshold is None else round(threshold, 4)}
        for subset in metrics.SUBSETS:
            of = subsets == subset
            if of.any():
                sure = of & (asked >= (2.0 if threshold is None else threshold))
                found[arm][subset] = {
                    "n": int(of.sum()),
                    "ece": round(calibration_error(asked[of], truth[of]), 4),
                    "ece_calibrated": round(calibration_error(calibrated[of], truth[of]), 4),
                    "coverage": round(float(sure.sum() / of.sum()), 4),
                    "precision": round(float(truth[sure].mean()), 4) if sure.any() else None,
                }
    return found


def evaluate(predictions: pl.DataFrame, precision: float = 0.9) -> dict[str, Any]:
    """Everything in metrics.json: each model's metrics, choices and confidences; then what training gained.

    Args:
        predictions: of every model about the same images; thresholds come from those of the split "val".
        precision: share of right answers that the abstaining threshold is to reach.
    """
    validation, test = predictions.filter(split="val"), predictions.filter(split="test")
    thresholds = vote_thresholds(validation)
    scored = metrics.scores(test, thresholds)
    models: dict[str, Any] = {
        str(model): {
            **metrics.by_part(scored.filter(model=model)),
            **({"datasets": sets} if (sets := metrics.by_dataset(scored.filter(model=model))) else {}),
            "K": metrics.draws_per_image(rows),
            "gate": round(thresholds[model], 4) if model in thresholds else None,
            **endings(rows),
            "confidence": trust(validation.filter(model=model), rows, precision),
        }
        for (model,), rows in test.group_by("model", maintain_order=True)
    }
    if {"base", "trained"} <= set(models):
        before, after = models["base"]["two_step"], models["trained"]["two_step"]
        parts = [part for part in ("base", "novel", "hm") if before[part] is not None]
        models["gain"] = {"two_step": {part: round(after[part] - before[part], 4) for part in parts}}
    return models


def endings(rows: pl.DataFrame) -> dict[str, Any]:
    """How one model's answers ended, and how its second step went, where it has one."""
    counts = metrics.status_counts(rows)
    first = {f"status_{name}": counts[name] for name in ("greedy", "draws") if counts[name]}
    if "two_step" not in metrics.measured(rows):
        return first
    return first | {
        "letter_choice": metrics.letter_choice(rows),
        "mistakes": metrics.mistakes(rows),
        "status": counts["second_step"],
    }


def open_answers(
    rows: pl.DataFrame, classes: pl.DataFrame, engine: Engine, sample: int, limit: float = 0.0
) -> dict[str, Any]:
    """By model what the judge said of the greedy answers, and their accuracy with those it took for the truth."""
    same, about = judge_answers(rows, classes, engine, sample, limit)
    scored = metrics.scores(rows).with_columns(pl.when(same).then(1.0).otherwise("one_step").alias("one_step"))
    return {
        model: said | {"one_step": metrics.by_part(scored.filter(model=model))["one_step"]}
        for model, said in about.items()
    }


def pairs(ways: list[Way]) -> list[tuple[Way, Way]]:
    """The comparisons that the method stands or falls by: of the trained model with each other one, then within each.

    By answer, with two steps also where the other model has but one.
    """
    models = list(dict.fromkeys(model for model, _ in ways))
    subject = "trained" if "trained" in models else models[0]
    between = [
        ((model, arm), (subject, arm)) for model in models if model != subject for arm in ("pass@1", *metrics.ARMS)
    ]
    between += [((m, "one_step"), (subject, "two_step")) for m in models if (m, "two_step") not in ways]
    within = [
        ((model, first), (model, second))
        for model in models
        for first, second in (
            ("one_step", "two_step"),
            ("vote", "two_step"),
            ("two_step", "cascade"),
            ("two_step", "rotated"),
        )
    ]
    return [pair for pair in between + within if set(pair) <= set(ways)]


def gain_sentence(differences: pl.DataFrame) -> str:
    """What training did to two-step, over all images, and whether so few images could tell."""
    for row in differences.filter(
        first="base two_step", second="trained two_step", dataset="all", part="total"
    ).iter_rows(named=True):
        said = f"; training changes two-step by {100 * row['difference']:+.1f} points"
        if row["low"] is None:
            return f"{said}, of a single class"
        said += f" ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
        if row["low"] <= 0 <= row["high"]:
            said += ": not told from nothing"
            if row["detectable"] is not None:
                said += f", {row['n']} images show {100 * row['detectable']:.1f} points or more"
        return said
    return ""


def unmatched(samples: pl.DataFrame, predictions: pl.DataFrame) -> pl.DataFrame:
    """Answers of step 1 that name no class of the image's own half, with their counts, most frequent first."""
    drawn = predictions.select("model", text="draw_texts", status="draw_statuses").explode("text", "status")
    test = drawn.filter(pl.col("status") == "off_list").with_columns(
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


def results(predictions: pl.DataFrame, classes: pl.DataFrame, topk: int, mass: float = 1.0) -> dict[str, pl.DataFrame]:
    """The CSV files of the reports, by name."""
    validation, test = predictions.filter(split="val"), predictions.filter(split="test")
    thresholds = vote_thresholds(validation)
    resampled = Resampled(metrics.scores(test, thresholds))
    subject = "trained" if "trained" in resampled.models else resampled.models[0]
    drawn, before = (rows.filter(pl.col("draws").list.len() > 0) for rows in (test, validation))
    return {
        "arms": comparison.arms(resampled),
        "differences": comparison.differences(resampled, pairs(resampled.ways)),
        "draws": curves.by_draws(drawn, topk, mass),
        "early_stop": curves.early_stops(drawn, topk, mass),
        "cost": curves.cost(drawn, thresholds),
        "letters": curves.letters(drawn),
        "calibration": curves.calibration(before, drawn),
        "risk_coverage": curves.risks(drawn),
        "classes": curves.by_class(test, classes),
        "confusion": curves.confusion(test.filter(model=subject), classes),
    }
