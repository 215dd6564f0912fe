"""What evaluate writes: the headline, the details of every model, and the tables behind the reports."""

from typing import Any

import polars as pl

from pipeline.evaluation import metrics
from pipeline.evaluation.calibration import calibration, confidence_summary, risks
from pipeline.evaluation.class_tables import by_class, confusion
from pipeline.evaluation.clusters import ClusteredScores
from pipeline.evaluation.comparison import accuracies, differences, questions_to_ask, subject_of
from pipeline.evaluation.cost import cost
from pipeline.evaluation.curves import by_draws, early_stops
from pipeline.evaluation.groups import by_model
from pipeline.evaluation.letters import letters
from pipeline.evaluation.metrics import HEADLINE
from pipeline.evaluation.scoring import ScoredPredictions
from pipeline.evaluation.ways import WAYS, measured
from pipeline.method.predictions import UNION


def details(scored: ScoredPredictions, precision: float = 0.9, union: pl.DataFrame | None = None) -> dict[str, Any]:
    """reports/details.json: by model its accuracies, statuses, choices and confidences; then what training gained.

    Args:
        precision: share of right answers that the threshold for abstaining is to reach.
        union: `scoring.union_scores`.
    """
    with_all = dict(by_model(union)) if union is not None else {}
    models: dict[str, Any] = {}
    for model, rows in by_model(scored.test):
        scores, threshold = scored.scores.filter(model=model), scored.vote_thresholds.get(model)
        summaries = {one.way: confidence_summary(one, precision) for one in scored.confidences if one.model == model}
        models[model] = {
            **metrics.averages(scores),
            **({"datasets": datasets} if (datasets := metrics.by_dataset(scores)) else {}),
            **({"union": metrics.averages(with_all[model + UNION])} if model + UNION in with_all else {}),
            "K": metrics.draws_per_image(rows),
            "vote_threshold": None if threshold is None else round(threshold, 4),
            **_statuses(rows),
            "confidence": {name: summary for name, summary in summaries.items() if summary},
        }
    if {"base", "trained"} <= set(models):
        # From exact accuracies: a difference of rounded ones would not be that of differences.csv.
        before, after = (
            metrics.averages(scored.scores.filter(model=model), digits=12)["two_step"] for model in ("base", "trained")
        )
        gain = {name: round(after[name] - before[name], 4) for name in HEADLINE if before[name] is not None}
        models["gain"] = {"two_step": gain}
    return models


def _statuses(rows: pl.DataFrame) -> dict[str, Any]:
    """How one model's answers could be parsed, and how its second step went, where it has one."""
    counts = metrics.status_counts(rows)
    first = {f"status_{name}": counts[name] for name in ("greedy", "draws") if counts[name]}
    if "two_step" not in {way.name for way in measured(rows)}:
        return first
    return first | {
        "letter_choice": metrics.letter_choice(rows),
        "mistakes": metrics.mistakes(rows),
        "status": counts["second_step"],
    }


def headline(details: dict[str, Any]) -> dict[str, Any]:
    """reports/metrics.json: the ways of the headline for the base model and the trained one, and the gain."""
    names = [way.name for way in WAYS if way.headline]
    result: dict[str, Any] = {
        model: {name: {key: details[model][name][key] for key in HEADLINE} for name in names if name in details[model]}
        for model in ("base", "trained")
        if model in details
    }
    return result | ({"gain": details["gain"]} if "gain" in details else {})


def report_tables(
    scored: ScoredPredictions, classes: pl.DataFrame, topk: int, mass: float = 1.0, union: pl.DataFrame | None = None
) -> dict[str, pl.DataFrame]:
    """The CSV files of reports/tables by name, except unmatched.csv."""
    all_scores = scored.scores if union is None else pl.concat([scored.scores, union])
    scores, with_draws = ClusteredScores(all_scores, classes), scored.with_draws
    models = set(with_draws["model"])
    confidences = [one for one in scored.confidences if one.model in models]
    return {
        "accuracies": accuracies(scores),
        "differences": differences(scores, questions_to_ask(scores.ways)),
        "draws": by_draws(with_draws, topk, mass),
        "early_stop": early_stops(with_draws, topk, mass),
        "cost": cost(scored),
        "letters": letters(with_draws),
        "calibration": calibration(confidences),
        "risk_coverage": risks(confidences),
        "classes": by_class(scored, classes),
        "confusion": confusion(scored.test.filter(model=subject_of(scores.models)), classes),
    }
