"""An event loop in a thread of its own: requests go on while the caller saves what has arrived."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any


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
