"""Draws in several processes of this machine, each with the whole model and a GPU of its own.

The batches are those of one process, and so are the draws: a process answers whole batches. A second question about a
picture goes to the process that has read the picture.
"""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any
from unittest.mock import patch

from pipeline.core import timings
from pipeline.core.engine import Completion, Request, Sampler
from pipeline.core.errors import UserError
from pipeline.core.gpus import CLAIMED, VISIBLE
from pipeline.engines.common.loading import load_processor
from pipeline.engines.common.prompt_lengths import PromptLengths
from pipeline.engines.local.batches import Batches
from pipeline.engines.local.transformers import TransformersEngine
from pipeline.engines.servers.supervisor import end_with_parent

Batch = list[Request]


class ProcessesEngine:
    """Draws like `engine`, with a copy of it in each of several processes. They start when they are first needed.

    Args:
        engine: not loaded yet.
        count: of processes.
        gpus: names of the GPUs, as many as processes; empty on a machine without.
    """

    def __init__(self, engine: TransformersEngine, count: int, gpus: Sequence[str]):
        self.engine, self.count, self.gpus = engine, count, gpus
        self.places: dict[str, int] = {}  # of pictures that a process has stored: its number + count × some number

    def fingerprint(self) -> dict[str, str]:
        return self.engine.fingerprint()

    @cached_property
    def workers(self) -> "list[_Worker]":
        threads = self.engine.threads or max(1, (os.cpu_count() or 1) // self.count)
        engine = self.engine
        limits = (engine.max_rows, engine.max_tokens, threads)
        settings = (engine.source, engine.dtype, engine.attention, *limits, engine.chat)
        gpus = self.gpus or [""] * self.count
        self.workers = [_Worker(number, self.count, gpu, settings) for number, gpu in enumerate(gpus)]
        for worker in self.workers:
            worker.way = worker.receive()
        timings.label(way=min(worker.way for worker in self.workers))
        timings.mark_ready()
        return self.workers

    @cached_property
    def lengths(self) -> PromptLengths:
        return PromptLengths(load_processor(self.engine.source), self.engine.chat)

    def draw(self, requests: Sequence[Request], sampler: Sampler) -> Iterator[list[Completion]]:
        batches = Batches(
            self.lengths.of,
            self._place,
            self.workers[0].way != "shared",
            self.engine.max_tokens,
            sampler.max_new_tokens,
        )
        todo, unreadable = batches.order(requests)
        if unreadable:
            yield unreadable
        of_worker: list[deque[Batch]] = [deque() for _ in self.workers]
        of_any: deque[Batch] = deque()
        while todo:
            batch, todo = batches.take(todo, self.engine.max_rows)
            place = self._place(batch[0])
            (of_any if place < 0 else of_worker[place % self.count]).append(batch)
        busy: dict[Any, tuple[_Worker, Batch]] = {}  # by connection
        try:
            while True:
                for worker, own in zip(self.workers, of_worker, strict=True):
                    if worker.connection not in busy and (own or of_any):
                        batch = own.popleft() if own else of_any.popleft()
                        worker.send((batch, sampler))
                        busy[worker.connection] = worker, batch
                if not busy:
                    return
                for connection in wait(list(busy)):
                    worker, batch = busy.pop(connection)
                    completions, stored, peak = worker.receive()
                    self._store(worker.number, stored)
                    timings.note_peak(peak)
                    timings.record(prompt_tokens=sum(map(self.lengths.of, batch)))
                    yield completions
        finally:
            if busy:  # their answers are for nobody
                self.close()

    def close(self) -> None:
        for worker in self.__dict__.pop("workers", []):
            worker.end()
        self.places.clear()

    def _place(self, request: Request) -> int:
        return self.places.get(request.image_id, -1)

    def _store(self, number: int, stored: list[list[str]]) -> None:
        """Notes the pictures of each prefill that a process has stored."""
        self.places = {image_id: place for image_id, place in self.places.items() if place % self.count != number}
        self.places |= {
            image_id: number + self.count * place for place, image_ids in enumerate(stored) for image_id in image_ids
        }


class _Worker:
    """One process, and this end of the pipe to it.

    Attributes:
        way: how its model draws; "" until it has said so.
    """

    way = ""

    def __init__(self, number: int, count: int, gpu: str, settings: tuple[Any, ...]):
        self.number, self.count = number, count
        context = get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, settings, number == 0), daemon=True)
        with patch.dict(os.environ, {VISIBLE: gpu, CLAIMED: gpu} if gpu else {}):
            self.process.start()
        other.close()

    def send(self, work: Any) -> None:
        """Raises UserError where the process has ended."""
        try:
            self.connection.send(work)
        except OSError:
            raise self._end() from None

    def _end(self) -> UserError:
        self.process.join()
        return UserError(
            f"process {self.number + 1} of {self.count} (engine.processes) ended with exit code "
            f"{self.process.exitcode}; the finished draws are kept: run the same command again"
        )

    def receive(self) -> Any:
        """What the process sends next. Raises UserError where that is an error, or where it has ended."""
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            raise self._end() from None
        if isinstance(answer, UserError):
            raise answer
        return answer

    def end(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def _work(connection: Connection, settings: tuple[Any, ...], announces: bool) -> None:
    """Answers batch after batch, until the other end of the pipe is closed."""
    end_with_parent()  # at once, so that its GPU is free
    engine = TransformersEngine(*settings)
    engine.announces = announces
    try:
        connection.send(engine.way.name)
        while True:
            batch, sampler = connection.recv()
            completions = [one for part in engine.draw(batch, sampler) for one in part]
            stored = [list(prefill.places) for prefill in engine.reader.picture_prefills]
            connection.send((completions, stored, timings.gpu_memory()))
    except UserError as error:
        connection.send(error)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass
