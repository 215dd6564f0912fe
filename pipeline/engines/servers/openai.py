"""Draws from servers that speak OpenAI's chat completions: vLLM, SGLang, transformers serve, hosted models.

The requests run on an event loop in a thread of its own, so that they continue while the caller saves completions.
Settings that the dialect cannot express are an error before any request is sent (`wire`). Fields that the server does
not support (`n`, `seed`, `logprobs`) are reported once on stderr and omitted. Retries and budget: `endpoints`.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from pipeline.core.engine import GREEDY, Completion, FingerprintError, Request, Sampler, failed
from pipeline.core.gpus import claim
from pipeline.core.params import UserError
from pipeline.engines.common.model_folder import content
from pipeline.engines.servers.api_key import read_key
from pipeline.engines.servers.background import Batches, background, collect
from pipeline.engines.servers.budget import Budget, BudgetError, Server
from pipeline.engines.servers.dialects import require_expressible
from pipeline.engines.servers.endpoints import Endpoints
from pipeline.engines.servers.failures import NoAnswerError, Refusals
from pipeline.engines.servers.server_process import ServerProcess, last_version
from pipeline.engines.servers.wire import (
    OPTIONAL_FIELDS,
    body,
    choices,
    completions,
    image_kind,
    rejected_fields,
)
from pipeline.method.chat import PLAIN, Chat

# Part of the cache key: raise it when the same request and sampler are sent differently than before.
VERSION = 2


class OpenAIEngine:
    """Any model behind an OpenAI-compatible endpoint that reads pictures. The budget lasts as long as the object.

    Draws are repeatable as far as the server honours `seed`, which depends on seed, image and draw.

    Args:
        probabilities: ask for the token probabilities of greedy answers.
        chat: what stands around every question.
    """

    process: ServerProcess | None = None  # of server.command
    version: str | None = None  # of that server, by the fingerprint; None before there is one

    def __init__(self, model: str, server: Server, probabilities: bool = True, chat: Chat = PLAIN):
        self.model, self.server, self.probabilities, self.chat = model, server, probabilities, chat
        self.budget = Budget(server)
        self.unsupported: set[str] = set()  # of OPTIONAL_FIELDS, by this server
        self.reported: set[str] = set()  # what was printed and need not be again

    def fingerprint(self) -> dict[str, str]:
        """Neither URL nor key: the same model gives the same answers on every server.

        A model that is also a folder here is identified by its content, so that a policy trained again is a new model;
        whether a server has reloaded it can be checked only if it is started here. Other models are identified by name.
        A server that is not started yet counts as of the version of the last start of its command.
        """
        about = {"engine": f"openai/{VERSION}", "model": self.model, "dialect": self.server.dialect}
        about |= self.chat.fingerprint()
        if self.server.dialect != "vllm":  # others draw several answers from one seed
            about["draws_per_request"] = str(self.server.draws_per_request)
        if self.server.command:
            if self.version is None:
                self.version = self.process.version if self.process else last_version(self.server.command)
            about |= {"command": self.server.command, "version": self.version}
        return about | {"content": content(self.model)} if Path(self.model).is_dir() else about

    def started(self) -> ServerProcess:
        """The server of `server.command`, which is started when it is first needed.

        Raises FingerprintError where it is not of the version that the fingerprint has.
        """
        if self.process is None:
            claim(self.server.gpus)
            self.process = ServerProcess(self.server.command, self.model, self.server.start_timeout)
            before, self.version = self.version, self.process.version
            if before not in (None, self.version):
                raise FingerprintError(
                    f"server.command: the server of {self.model} is now of version {self.version or 'unknown'}, and "
                    f"draws of version {before or 'unknown'} were used already; run the same command again, which "
                    "draws anew"
                )
        return self.process

    def _require_one_source(self) -> None:
        if bool(self.server.endpoints) == bool(self.server.command):
            raise UserError(
                f"params.yaml: {self.model} needs either server.command, which starts a server, or endpoints, where "
                "one runs already, and not both; set one with `dvc exp run -S "
                "'server.endpoints=[http://localhost:8000/v1]'` (docs/scale.md)"
            )

    def close(self) -> None:
        if self.process:
            self.process.stop()
        self.process = None

    def draw(self, requests: Sequence[Request], sampler: Sampler) -> Iterator[list[Completion]]:
        self._require_one_source()
        require_expressible(self.server.dialect, sampler, self.chat)
        if not any(request.draws for request in requests):
            return
        run = _Run(self, sampler)
        with background(run.all(requests)) as future:
            future.add_done_callback(lambda _: run.batches.put([]))
            while not (future.done() and run.batches.empty()):
                batch = collect(run.batches)
                if batch:
                    yield batch
            future.result()


class _Run:
    """One call of `draw`, within the event loop."""

    def __init__(self, engine: OpenAIEngine, sampler: Sampler):
        self.engine, self.sampler = engine, sampler
        self.process = engine.started() if engine.server.command else None
        key = self.process.key if self.process else read_key(engine.server.key_variable)
        self.endpoints = Endpoints(engine.server, engine.model, engine.budget, key, self.process, engine.reported)
        self.batches: Batches = SimpleQueue()
        self.refusals = Refusals()

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
        self.endpoints.require_process()
        if not all(task.result() for task in tasks):
            raise UserError(self.endpoints.budget.message())

    def _jobs(self, requests: Sequence[Request]) -> Iterator[tuple[Request, list[int]]]:
        """The content of each request to the server: an image, and consecutive draws of it."""
        for request in requests:
            draws = sorted(draw for draw in request.draws if draw != GREEDY)
            if len(draws) < len(request.draws):
                yield request, [GREEDY]
            while draws:
                size = next((n for n in range(1, len(draws)) if draws[n] != draws[0] + n), len(draws))
                size = min(size, self._size())
                yield request, draws[:size]
                draws = draws[size:]

    def _size(self) -> int:
        return 1 if "n" in self.engine.unsupported else self.engine.server.draws_per_request

    async def _work(self, jobs: Iterator[tuple[Request, list[int]]]) -> bool:
        """Works through the jobs that all workers share. Returns False where the budget ended it."""
        try:
            for request, draws in jobs:
                await self._draw(request, draws)
        except BudgetError:
            return False
        return True

    async def _draw(self, request: Request, draws: list[int]) -> None:
        """Sends requests until every draw has its completion."""
        if request.image is not None and image_kind(request.image) is None:
            self._emit([failed(request, draw, "the picture is neither JPEG nor PNG") for draw in draws])
            return
        while draws:
            numbers = draws[: self._size()]
            fields = {"model": self.engine.model} | body(
                self.engine.server.dialect, request, numbers, self.sampler, self.engine.chat, self.engine.probabilities
            )
            fields = {name: value for name, value in fields.items() if name not in self.engine.unsupported}
            try:
                answer = await self.endpoints.ask(fields)
            except NoAnswerError as error:
                if error.rejection and self._omit_rejected_fields(error.reason, fields):
                    continue
                if error.rejection:
                    self.refusals.add(request.image_id, error.reason)
                results = [failed(request, draw, error.reason) for draw in numbers]
            else:
                self.refusals.end()
                results = completions(answer, request, numbers, self.sampler.stop)
                if len(numbers) > 1 and len(choices(answer)) == 1:
                    self._omit("n")
            self._emit(results)
            draws = draws[len(results) :]

    def _emit(self, results: list[Completion]) -> None:
        # Again, after parse_json: the parts of a text can be joined to the key.
        self.batches.put([replace(one, text=self.endpoints.clean(one.text)) for one in results])

    def _omit_rejected_fields(self, reason: str, fields: dict[str, Any]) -> bool:
        """Omits the optional fields that a rejection is about. Returns whether there is any."""
        fields_to_omit = rejected_fields(reason, fields)
        for name in fields_to_omit:
            self._omit(name)
        return bool(fields_to_omit)

    def _omit(self, name: str) -> None:
        if name not in self.engine.unsupported:
            self.engine.unsupported.add(name)
            self.endpoints.report(OPTIONAL_FIELDS[name])
