"""An event loop in a thread of its own: requests go on while the caller saves what has arrived."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from pipeline.core.engine import Completion

YIELD_EVERY = 1.0  # seconds

Batches = SimpleQueue[list[Completion]]
"""What the requests give to the caller; an empty list says that they have ended."""


@contextmanager
def background(work: Coroutine[Any, Any, None]) -> Iterator[Future[None]]:
    """Runs `work` on an event loop in a thread of its own. On exit it is cancelled, and loop and thread end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="openai-engine", daemon=True)
    thread.start()
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        yield future
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_tasks(loop), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await loop.shutdown_default_executor()


def collect(batches: Batches) -> list[Completion]:
    """The completions that arrive within YIELD_EVERY seconds or before the end."""
    batch: list[Completion] = []
    deadline = time.monotonic() + YIELD_EVERY
    while (left := deadline - time.monotonic()) > 0:
        try:
            some = batches.get(timeout=left)
        except Empty:
            break
        if not some:
            break
        batch += some
    return batch
