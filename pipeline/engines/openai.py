"""Draws from servers that speak OpenAI's chat completions: vLLM, SGLang, transformers serve, hosted models.

The requests run on an event loop in a thread of its own, so that they go on while the caller saves what has arrived.
What the dialect cannot express is refused before anything is asked (`wire`); what the server turns out not to do,
several choices at once or seeds, is said once on stderr and done without. Retries and budget: `endpoints`.
"""

import asyncio
import re
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from pipeline.core.engine import GREEDY, Completion, Request, Sampler, failed
from pipeline.core.params import UserError
from pipeline.engines.endpoints import Endpoints, NoAnswerError, Spending, SpentError, key_of
from pipeline.engines.endpoints import Server as Server
from pipeline.engines.loading import content
from pipeline.engines.wire import body, choices, completions, image_kind, refuse_what_cannot_be_said

# Raised when the same request and sampler are asked in other words than before: draws are kept under it.
VERSION = 1

YIELD_EVERY = 1.0  # seconds

DISPENSABLE = {
    "n": "the server draws one answer a request, whatever n says: going on with a request for every draw",
    "seed": "the server takes no seed: going on without, so that another run draws other answers",
    "logprobs": "the server does not tell how probable its tokens are: going on without",
}

Done = SimpleQueue[list[Completion]]


class OpenAIEngine:
    """Any model behind an OpenAI-compatible endpoint that reads pictures. The budget lasts as long as the object.

    Draws are repeatable as far as the server honours `seed`, which depends on seed, image and draw. Where several
    share a request it is the first one's, so that they depend on which others were asked for along with them.
    """

    def __init__(self, model: str, server: Server):
        self.model, self.server = model, server
        self.spending = Spending()
        self.without: set[str] = set()  # those of DISPENSABLE that the server has turned out not to do

    def fingerprint(self) -> dict[str, str]:
        """Neither URL nor key: a model answers alike wherever it is served.

        A model that is also a folder here is told by its content, so that a policy that was trained again is not taken
        for the one before; whether the server has loaded it anew is not known. Other models are told by their name.
        """
        found = {
            "engine": f"openai/{VERSION}",
            "model": self.model,
            "dialect": self.server.dialect,
            "draws_per_request": str(self.server.draws_per_request),
        }
        return found | {"content": content(self.model)} if Path(self.model).is_dir() else found

    def draw(self, requests: Sequence[Request], sampler: Sampler) -> Iterator[list[Completion]]:
        if not self.server.endpoints:
            raise UserError(
                "params.yaml: server.endpoints is empty, wanted at least one URL for engine.name = openai; "
                "set it with `dvc exp run -S 'server.endpoints=[http://localhost:8000/v1]'` (docs/scale.md)"
            )
        refuse_what_cannot_be_said(self.server.dialect, sampler)
        if not any(request.draws for request in requests):
            return
        run = _Run(self, sampler)
        with _background(run.all(requests)) as running:
            running.add_done_callback(lambda _: run.done.put([]))
            while not (running.done() and run.done.empty()):
                batch = _collected(run.done)
                if batch:
                    yield batch
            running.result()


class _Run:
    """One call of `draw`, on the side of the event loop."""

    def __init__(self, engine: OpenAIEngine, sampler: Sampler):
        self.engine, self.sampler = engine, sampler
        self.endpoints = Endpoints(engine.server, engine.model, engine.spending, key_of(engine.server.key_variable))
        self.done: Done = SimpleQueue()

    async def all(self, requests: Sequence[Request]) -> None:
        jobs = self._jobs(requests)
        try:
            await self.endpoints.connect()
            workers = self.engine.server.concurrency * len(self.endpoints.usable)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._work(jobs)) for _ in range(workers)]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            await self.endpoints.close()
        if not all(task.result() for task in tasks):
            raise UserError(self.endpoints.spent())

    def _jobs(self, requests: Sequence[Request]) -> Iterator[tuple[Request, list[int]]]:
        """What one request to the server asks for: a picture, and draws of it."""
        for request in requests:
            draws = [draw for draw in request.draws if draw != GREEDY]
            if len(draws) < len(request.draws):
                yield request, [GREEDY]
            while draws:
                size = self._size()
                yield request, draws[:size]
                draws = draws[size:]

    def _size(self) -> int:
        return 1 if "n" in self.engine.without else self.engine.server.draws_per_request

    async def _work(self, jobs: Iterator[tuple[Request, list[int]]]) -> bool:
        """Takes job after job from those that all workers share. False where the budget ended it."""
        try:
            for request, draws in jobs:
                await self._draw(request, draws)
        except SpentError:
            return False
        return True

    async def _draw(self, request: Request, draws: list[int]) -> None:
        """Asks until every draw has its completion."""
        if request.image is not None and image_kind(request.image) is None:
            self._give([failed(request, draw, "the picture is neither JPEG nor PNG") for draw in draws])
            return
        while draws:
            asked = draws[: self._size()]
            said = {"model": self.engine.model} | body(self.engine.server.dialect, request, asked, self.sampler)
            said = {name: value for name, value in said.items() if name not in self.engine.without}
            try:
                answer = await self.endpoints.ask(said)
            except NoAnswerError as error:
                if error.refused and self._without_what_is_refused(error.reason, said):
                    continue
                read = [failed(request, draw, error.reason) for draw in asked]
            else:
                read = completions(answer, request, asked, self.sampler.stop)
                if len(asked) > 1 and len(choices(answer)) == 1:
                    self._do_without("n")
            self._give(read)
            draws = draws[len(read) :]

    def _give(self, read: list[Completion]) -> None:
        self.done.put([replace(one, text=self.endpoints.clean(one.text)) for one in read])

    def _without_what_is_refused(self, reason: str, said: dict[str, Any]) -> bool:
        """Whether the refusal names a field of the request that can be left out; in quotes, unless it is no word."""
        patterns = {name: rf"""['"`]{name}\\?['"`]""" for name in DISPENSABLE} | {"logprobs": r"\blogprobs\b"}
        refused = [name for name, pattern in patterns.items() if name in said and re.search(pattern, reason)]
        for name in refused:
            self._do_without(name)
        return bool(refused)

    def _do_without(self, name: str) -> None:
        if name not in self.engine.without:
            self.engine.without.add(name)
            self.endpoints.say(DISPENSABLE[name])


def _collected(done: Done) -> list[Completion]:
    """What arrives within YIELD_EVERY seconds, or before the end."""
    batch: list[Completion] = []
    until = time.monotonic() + YIELD_EVERY
    while (left := until - time.monotonic()) > 0:
        try:
            some = done.get(timeout=left)
        except Empty:
            break
        if not some:
            break
        batch += some
    return batch


@contextmanager
def _background(work: Coroutine[Any, Any, None]) -> Iterator[Future[None]]:
    """Runs `work` on an event loop in a thread of its own. On leaving it is cancelled, and loop and thread are gone."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="openai-engine", daemon=True)
    thread.start()
    running = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        yield running
    finally:
        asyncio.run_coroutine_threadsafe(_settle(loop), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _settle(loop: asyncio.AbstractEventLoop) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await loop.shutdown_default_executor()
