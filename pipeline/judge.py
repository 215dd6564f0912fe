"""A language model says whether an open answer names the true class, where the matcher finds no class at all.

Departure from the paper, which asks a judge about every answer: exact names, aliases and spellings are settled by the
matcher, so that a judge is asked about the rest, and about some of the others to see whether both agree.
"""

import hashlib
import random
from dataclasses import dataclass
from typing import Any

import polars as pl

from pipeline import params
from pipeline.answers import answer_text
from pipeline.engines import GREEDY, Engine, Request, Sampler
from pipeline.engines.openai import OpenAIEngine, Server
from pipeline.params import UserError
from pipeline.store import StoredEngine, draws_folder

# Part of what verdicts are kept by: another wording asks anew.
QUESTION = (
    "A {noun} was to be named. The true name is: {truth}\nThe answer given is: {answer}\n"
    "Do both name the same kind of {noun}, be it in other words, another spelling or another language? A broader or a "
    "narrower kind is not the same. Reply with yes or no alone."
)
SAMPLER = Sampler(
    temperature=1.0,  # of no account: only the greedy reply is asked for
    top_p=1.0,
    top_k=0,
    repetition_penalty=1.0,
    penalize_prompt=True,
    max_new_tokens=8,
    stop=(),
    seed=0,
)


@dataclass(frozen=True)
class JudgeParams:
    model: str = params.key("judge.model", or_empty=True)
    endpoints: tuple[str, ...] = params.key("judge.endpoints")
    key_variable: str = params.key("judge.key_variable")
    sample: int = params.key("judge.sample", at_least=0)
    concurrency: int = params.key("server.concurrency", at_least=1)
    timeout: float = params.key("server.timeout", above=0)
    retries: int = params.key("server.retries", at_least=0)

    def connect(self) -> StoredEngine:
        """The judge; what it has said once is kept."""
        server = Server(
            endpoints=self.endpoints,
            dialect="openai",
            draws_per_request=1,
            concurrency=self.concurrency,
            timeout=self.timeout,
            retries=self.retries,
            max_requests=0,
            max_tokens=0,
            key_variable=self.key_variable,
        )
        return StoredEngine(OpenAIEngine(self.model, server), draws_folder())


Pair = tuple[str, str, str]
"""Noun, true name and answer."""


def verdicts(engine: Engine, pairs: list[Pair]) -> dict[Pair, bool | None]:
    """Whether truth and answer are the same, asked once for each pair; None where the reply is neither yes nor no.

    Raises UserError where a request failed: that is no verdict.
    """
    asked = {_key(pair): pair for pair in pairs}
    requests = [
        Request(key, None, QUESTION.format(noun=noun, truth=truth, answer=answer), [GREEDY])
        for key, (noun, truth, answer) in asked.items()
    ]
    found: dict[Pair, bool | None] = {}
    failed = []
    for batch in engine.draw(requests, SAMPLER):
        for done in batch:
            if done.error is not None:
                failed.append(done.error)
                continue
            word = done.text.strip().strip(".*\"'!").lower()
            found[asked[done.image_id]] = {"yes": True, "no": False}.get(word)
    if failed:
        raise UserError(
            f"judge.model: {len(failed)} of {len(asked)} questions failed, the first with {failed[0]!r}; a failure is "
            "no verdict: mend the cause and `dvc repro evaluate`, which asks only what is missing"
        )
    return found


def _key(pair: Pair) -> str:
    return hashlib.sha256("\0".join(pair).encode()).hexdigest()[:16]


def judged(
    predictions: pl.DataFrame, classes: pl.DataFrame, engine: Engine, sample: int
) -> tuple[pl.Series, dict[str, dict[str, Any]]]:
    """What the judge makes of the greedy answers.

    Args:
        predictions: rows to judge; only greedy answers that name no class of the list are asked about.
        sample: of the answers that the matcher has settled, so many of each model are asked about too.

    Returns:
        For each row whether the judge takes the answer for the truth; and by model how many answers it was asked about,
        how many of these it took for the truth, how many replies could not be read (which count as no), its share of
        all answers, and how often it agrees with the matcher about the sample.
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
    found = verdicts(engine, [answer.pair for answer in (*asked, *(one for some in tried.values() for one in some))])
    about = {}
    for model, some in tried.items():
        said = [found[answer.pair] for answer in asked if answer.model == model]
        agree = [found[answer.pair] == answer.right for answer in some]
        about[model] = {
            "asked": len(said),
            "same": said.count(True),
            "unreadable": said.count(None),
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
