"""Text-only questions to a language model behind an endpoint: each is sent once; a failed one has no reply."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.core.engine import GREEDY, Completion, Engine, Request, Sampler, plain_sampler
from pipeline.core.params import UserError, key
from pipeline.core.progress import bar
from pipeline.engines.common.draw_cache import CachingEngine, draw_cache_folder
from pipeline.engines.servers.budget import Server
from pipeline.engines.servers.openai import OpenAIEngine

Fault = Callable[[str], str | None]
"""Returns why a reply is unusable, or None."""


@dataclass(frozen=True)
class LLMServerParams:
    """Concurrency, waiting and retries for the endpoints of a language model, or the command that starts its server."""

    command: str = key("server.command", or_empty=True)
    start_timeout: float = key("server.start_timeout", above=0)
    concurrency: int = key("server.concurrency", at_least=1)
    timeout: float = key("server.timeout", above=0)
    retries: int = key("server.retries", at_least=0)

    def language_model(
        self, model: str, endpoints: tuple[str, ...], key_variable: str, fault: Fault = lambda _: None
    ) -> CachingEngine:
        """The model of this name. Its replies are cached, except those with a `fault`."""
        server = Server(
            endpoints=endpoints,
            command="" if endpoints else self.command,
            start_timeout=self.start_timeout,
            gpus=1,
            dialect="openai",
            draws_per_request=1,
            concurrency=self.concurrency,
            timeout=self.timeout,
            retries=self.retries,
            max_requests=0,
            max_tokens=0,
            key_variable=key_variable,
        )
        return CachingEngine(
            CheckedEngine(OpenAIEngine(model, server, probabilities=False), fault), draw_cache_folder()
        )


@dataclass(frozen=True)
class CheckedEngine:
    """An engine whose unusable replies count as failures: they are not cached, and the next run asks again."""

    engine: Engine
    fault: Fault

    def fingerprint(self) -> dict[str, str]:
        return self.engine.fingerprint()

    def close(self) -> None:
        self.engine.close()

    def draw(self, requests: Sequence[Request], sampler: Sampler) -> Iterator[list[Completion]]:
        for batch in self.engine.draw(requests, sampler):
            yield [
                replace(one, error=reason) if one.error is None and (reason := self.fault(one.text)) else one
                for one in batch
            ]


def replies(
    engine: Engine, questions: Iterable[str], max_new_tokens: int, setting: str, stage: str, limit: float = 0.0
) -> dict[str, str]:
    """The greedy reply to every question, each sent once; a failed request has no entry.

    Raises UserError, which names the setting and the stage to run again, where more than the share `limit` failed.
    """
    question_of = {hashlib.sha256(question.encode()).hexdigest()[:16]: question for question in questions}
    sampler = plain_sampler(max_new_tokens)
    answers: dict[str, str] = {}
    errors: list[str] = []
    requests = [Request(name, None, question, [GREEDY]) for name, question in question_of.items()]
    with bar(setting, len(question_of), "questions") as advance:
        for batch in engine.draw(requests, sampler):
            for completion in batch:
                advance()
                if completion.error is not None:
                    errors.append(completion.error)
                else:
                    answers[question_of[completion.image_id]] = completion.text
            if len(errors) > limit * len(question_of):  # now, and not when all have failed
                raise UserError(
                    f"{setting}: {len(errors)} of {len(question_of)} questions failed (limit {100 * limit:g} %), the "
                    f"first with {errors[0]!r}: fix the cause and run `dvc repro {stage}`, which sends only the failed "
                    "ones"
                )
    return answers
