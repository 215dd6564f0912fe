"""A language model judges whether a free-text answer names the true class, where the matcher matches no class.

Departure from the paper, which has every answer judged: the matcher decides exact names, aliases and spellings; the
judge decides the rest, and also a sample of the matched answers, to see whether both agree.
"""

import random
import re
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipeline.core.engine import Engine
from pipeline.core.params import key
from pipeline.engines.common.draw_cache import CachingEngine
from pipeline.engines.language_model import LLMServerParams, replies
from pipeline.evaluation.metrics import averages
from pipeline.evaluation.scoring import ScoredPredictions
from pipeline.method.answers import answer_text
from pipeline.method.thoughts import after_thought

# Part of the cache key of verdicts: with another wording everything is judged again.
QUESTION = (
    "A {noun} was to be named. The true name is: {truth}\nThe answer given is: {answer}\n"
    "Do both name the same kind of {noun}, be it in other words, another spelling or another language? A broader or a "
    "narrower kind is not the same. Reply with yes or no alone."
)
MAX_TOKENS = 1024  # for judges that reason before they answer
VERDICT = re.compile(
    r"\W*(?:(?:json|the|my|final|so)\W+)*(?:(?:answer|verdict|reply|result)\b\W*(?:is\b\W*)?)?"
    r"(yes|no)\b(?=\W*$|\s*[.,;:!*(\u2013\u2014-])",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class JudgeParams(LLMServerParams):
    model: str = key("judge.model", or_empty=True)
    endpoints: tuple[str, ...] = key("judge.endpoints")
    key_variable: str = key("judge.key_variable")
    sample: int = key("judge.sample", at_least=0)
    max_error_rate: float = key("max_error_rate", at_least=0, at_most=1)

    def connect(self) -> CachingEngine:
        """The judge; its verdicts are cached."""
        return self.language_model(self.model, self.endpoints, self.key_variable, fault)


def verdict(reply: str) -> bool | None:
    """Yes or no, after any reasoning; None where the reply is neither."""
    match = VERDICT.match(after_thought(reply))
    return None if match is None else match[1].lower() == "yes"


def fault(reply: str) -> str | None:
    """Why a reply is no verdict; None where it is one."""
    return None if verdict(reply) is not None else f"neither yes nor no: {reply[-60:].strip()!r}"


Pair = tuple[str, str, str]
"""Noun, true name and answer."""


def verdicts(engine: Engine, pairs: list[Pair], limit: float = 0.0) -> dict[Pair, bool | None]:
    """Whether truth and answer are the same, one request for each pair; None where there is no verdict.

    Raises UserError where more than the share `limit` of the requests failed or returned no verdict.
    """
    questions = {pair: QUESTION.format(noun=pair[0], truth=pair[1], answer=pair[2]) for pair in pairs}
    answers = replies(engine, questions.values(), MAX_TOKENS, "judge.model", "evaluate", limit)
    return {pair: verdict(answers[text]) if text in answers else None for pair, text in questions.items()}


def judge_answers(
    predictions: pl.DataFrame, classes: pl.DataFrame, engine: Engine, sample: int, limit: float = 0.0
) -> tuple[pl.Series, dict[str, dict[str, Any]]]:
    """The judge's verdicts on greedy answers.

    Args:
        predictions: rows to judge. The judge decides on greedy answers that the matcher matched to no class.
        sample: it also judges this many of each model's answers that the matcher did match, to see how often both
            agree.
        limit: share of the requests that may fail. Failures are not cached, so the next run repeats them.

    Returns:
        For each row whether the judge takes the answer for the truth. By model: questions, the unmatched answers that
        were judged; same, those it took for the truth; failed, those without a verdict; share, questions by all
        answers; agreement of judge and matcher on the sample; sample, its answers that have a verdict.

    Raises:
        UserError: more than `limit` of the requests failed.
    """
    names = classes.select("dataset", "class_id", "name", "noun")
    right = (pl.col("one_step") == pl.col("class_id")).fill_null(False)
    rows = predictions.join(names, on=["dataset", "class_id"], maintain_order="left").select(
        "model", "noun", "name", "greedy_text", status="greedy_status", right=right
    )
    models, statuses, right_rows = (rows[name].to_list() for name in ("model", "status", "right"))
    pairs: list[Pair] = [
        (noun, name, answer_text(text) or "") for noun, name, text in rows["noun", "name", "greedy_text"].iter_rows()
    ]
    is_open = [status == "off_list" and bool(pair[2]) for status, pair in zip(statuses, pairs, strict=True)]
    by_model = {model: [row for row, name in enumerate(models) if name == model] for model in dict.fromkeys(models)}
    samples = {}
    for model, own in by_model.items():
        matches = [row for row in own if statuses[row] == "ok"]
        samples[model] = random.Random(0).sample(matches, min(sample, len(matches)))
    order = [row for row, holds in enumerate(is_open) if holds] + [row for some in samples.values() for row in some]
    verdict_of = verdicts(engine, [pairs[row] for row in order], limit)
    summary = {}
    for model, own in by_model.items():
        answers = [verdict_of[pairs[row]] for row in own if is_open[row]]
        agree = [
            verdict_of[pairs[row]] == right_rows[row] for row in samples[model] if verdict_of[pairs[row]] is not None
        ]
        summary[model] = {
            "questions": len(answers),
            "same": answers.count(True),
            "failed": answers.count(None),
            "share": round(len(answers) / len(own), 4),
            "agreement": round(sum(agree) / len(agree), 4) if agree else None,
            "sample": len(agree),
        }
    same = [holds and bool(verdict_of[pair]) for holds, pair in zip(is_open, pairs, strict=True)]
    return pl.Series("same", same, pl.Boolean), summary


def judge_models(
    scored: ScoredPredictions, classes: pl.DataFrame, engine: Engine, sample: int, limit: float = 0.0
) -> dict[str, dict[str, Any]]:
    """For each model that draws the summary of `judge_answers`, and one_step: its accuracies with the judge's verdicts.

    Other models choose from a list, so their answers always match a class.
    """
    same, summary = judge_answers(scored.with_draws, classes, engine, sample, limit)
    scores = scored.scores.filter(scored.test["draws"].list.len() > 0)
    scores = scores.with_columns(pl.when(same).then(1.0).otherwise("one_step").alias("one_step"))
    return {
        model: about | {"one_step": averages(scores.filter(model=model))["one_step"]}
        for model, about in summary.items()
    }
