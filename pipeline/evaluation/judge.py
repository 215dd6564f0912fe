"""A language model says whether an open answer names the true class, where the matcher finds no class at all.

Departure from the paper, which asks a judge about every answer: exact names, aliases and spellings are settled by the
matcher, so that a judge is asked about the rest, and about some of the others to see whether both agree.
"""

import random
import re
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipeline.core.engine import Engine
from pipeline.core.params import key
from pipeline.engines.draw_cache import CachingEngine
from pipeline.engines.texts import LLMServerParams, replies
from pipeline.method.answers import answer_text

# Part of what verdicts are kept by: another wording asks anew.
QUESTION = (
    "A {noun} was to be named. The true name is: {truth}\nThe answer given is: {answer}\n"
    "Do both name the same kind of {noun}, be it in other words, another spelling or another language? A broader or a "
    "narrower kind is not the same. Reply with yes or no alone."
)
MAX_TOKENS = 1024  # for judges that think before they answer
VERDICT = re.compile(r"\W*(yes|no)\b(?=\W*$|\s*[.,;:!*\u2013\u2014-])", re.IGNORECASE)


@dataclass(frozen=True)
class JudgeParams(LLMServerParams):
    model: str = key("judge.model", or_empty=True)
    endpoints: tuple[str, ...] = key("judge.endpoints")
    key_variable: str = key("judge.key_variable")
    sample: int = key("judge.sample", at_least=0)
    max_error_rate: float = key("max_error_rate", at_least=0, at_most=1)

    def connect(self) -> CachingEngine:
        """The judge; what it has said once is kept."""
        return self.ask(self.model, self.endpoints, self.key_variable, fault)


def verdict(reply: str) -> bool | None:
    """Yes or no, after whatever was thought; None where it is neither."""
    said = VERDICT.match(reply.rpartition("</think>")[2])
    return None if said is None else said[1].lower() == "yes"


def fault(reply: str) -> str | None:
    return None if verdict(reply) is not None else f"neither yes nor no: {reply[-60:].strip()!r}"


Pair = tuple[str, str, str]
"""Noun, true name and answer."""


def verdicts(engine: Engine, pairs: list[Pair], limit: float = 0.0) -> dict[Pair, bool | None]:
    """Whether truth and answer are the same, asked once for each pair; None where there is no verdict.

    Raises UserError where more than the share `limit` of the requests failed, or came back without a verdict.
    """
    asked = {pair: QUESTION.format(noun=pair[0], truth=pair[1], answer=pair[2]) for pair in pairs}
    said = replies(engine, asked.values(), MAX_TOKENS, "judge.model", "evaluate", limit)
    return {pair: verdict(said[question]) if question in said else None for pair, question in asked.items()}


def judge_answers(
    predictions: pl.DataFrame, classes: pl.DataFrame, engine: Engine, sample: int, limit: float = 0.0
) -> tuple[pl.Series, dict[str, dict[str, Any]]]:
    """What the judge makes of the greedy answers.

    Args:
        predictions: rows to judge; only greedy answers that name no class of the list are asked about.
        sample: of the answers that the matcher has settled, so many of each model are asked about too.

    Returns:
        For each row whether the judge takes the answer for the truth; and by model how many answers it was asked about,
        how many of these it took for the truth, how many have no verdict since the request failed (none are kept, so
        that the next run asks again; more than the share `limit` are a UserError), its share of all answers, and how
        often it agrees with the matcher about the sample.
    """
    named = classes.select("dataset", "class_id", "name", "noun")
    rows = predictions.join(named, on=["dataset", "class_id"], maintain_order="left")
    right = pl.col("one_step") == pl.col("class_id")
    columns = rows.select("model", "noun", "name", "greedy_text", "greedy_status", right)
    answers = [
        _Answer(model, (noun, name, answer_text(text) or ""), status, bool(right))
        for model, noun, name, text, status, right in columns.iter_rows()
    ]
    tried = {}
    for model in dict.fromkeys(answer.model for answer in answers):
        settled = [answer for answer in answers if answer.model == model and answer.status == "ok"]
        tried[model] = random.Random(0).sample(settled, min(sample, len(settled)))
    asked = [answer for answer in answers if answer.is_left]
    found = verdicts(
        engine, [answer.pair for answer in (*asked, *(one for some in tried.values() for one in some))], limit
    )
    about = {}
    for model, some in tried.items():
        said = [found[answer.pair] for answer in asked if answer.model == model]
        agree = [found[answer.pair] == answer.right for answer in some if found[answer.pair] is not None]
        about[model] = {
            "asked": len(said),
            "same": said.count(True),
            "failed": said.count(None),
            "share": round(len(said) / sum(answer.model == model for answer in answers), 4),
            "agreement": round(sum(agree) / len(agree), 4) if agree else None,
            "sample": len(agree),
        }
    return pl.Series("judged", [answer.is_left and bool(found[answer.pair]) for answer in answers], pl.Boolean), about


@dataclass(frozen=True)
class _Answer:
    model: str
    pair: Pair
    status: str
    right: bool  # by the matcher

    @property
    def is_left(self) -> bool:
        """Whether there is an answer that the matcher could not settle."""
        return self.status == "off_list" and bool(self.pair[2])
