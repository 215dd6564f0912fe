"""Sends requests to the endpoints of a model: to which one, how often, and how long one may be away."""

import asyncio
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.params import UserError
from pipeline.core.terminal import printable
from pipeline.engines.servers.api_key import clean
from pipeline.engines.servers.budget import Budget, Server
from pipeline.engines.servers.endpoint import Endpoint
from pipeline.engines.servers.failures import KEPT, LONGEST_WAIT, AwayError, NoAnswerError
from pipeline.engines.servers.server_process import ServerProcess

BACKOFF = 1.0  # seconds: the longest wait before the first retry; it doubles with every further one


@dataclass
class Endpoints:
    """The endpoints that serve `model`. `connect` opens them, within an event loop.

    Args:
        process: the server that was started here, which is then the only endpoint.
        reported: what was printed and need not be again.
    """

    server: Server
    model: str
    budget: Budget
    key: str
    process: ServerProcess | None = None
    reported: set[str] = field(default_factory=set)
    usable: list[Endpoint] = field(default_factory=list)

    async def connect(self) -> None:
        """Raises UserError where no endpoint serves the model, an ExceptionGroup of it where the key is rejected."""
        urls = (self.process.url,) if self.process else self.server.endpoints
        self.usable = [
            Endpoint(url, self.server, self.model, self.budget, self.key)
            for url in dict.fromkeys(url.rstrip("/") for url in urls)
        ]
        # Where a server has answered before, it may be starting again.
        give_up = time.monotonic() + (self.server.start_timeout if self.budget.requests else 0)
        while all(obstacles := await self._obstacles()) and time.monotonic() < give_up:
            self.require_process()
            self.report(self._waiting(obstacles[0]))
            await asyncio.sleep(BACKOFF)
        for endpoint, obstacle in zip(self.usable, obstacles, strict=True):
            if obstacle:
                await endpoint.client.close()
        reasons = "; ".join(obstacle for obstacle in obstacles if obstacle)
        self.usable = [e for e, obstacle in zip(self.usable, obstacles, strict=True) if not obstacle]
        if not self.usable:
            raise UserError(
                f"{reasons}; start a server under the name {self.model} (docs/scale.md), or set server.endpoints"
            )
        if reasons:
            self.report(f"{reasons}; continuing with {', '.join(endpoint.url for endpoint in self.usable)}")

    async def close(self) -> None:
        await asyncio.gather(*(endpoint.client.close() for endpoint in self.usable))

    async def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a chat completion, with at least one choice. Raises NoAnswerError, BudgetError or UserError."""
        last, attempt = None, 0
        while attempt <= self.server.retries:
            endpoint = self._choose(last)
            endpoint.pending += 1
            try:
                async with endpoint.slots:
                    answer, reason, wait = await endpoint.attempt(body)
            except NoAnswerError:
                self._mark_present(endpoint)
                raise
            except AwayError as error:  # which is no attempt: nothing was sent
                self._require_return(endpoint, str(error))
                last = endpoint
                await asyncio.sleep(BACKOFF * random.uniform(0.5, 1))
                continue
            finally:
                endpoint.pending -= 1
            self._mark_present(endpoint)
            if answer is not None:
                endpoint.avoid_until = 0.0
                return answer
            last, longest = endpoint, min(LONGEST_WAIT, BACKOFF * 2 ** min(attempt, 20))
            endpoint.avoid_until = time.monotonic() + max(wait, longest)
            if attempt < self.server.retries:
                # Full jitter: requests that failed together are not retried together.
                await asyncio.sleep(wait + random.uniform(0, longest))
            attempt += 1
        raise NoAnswerError(f"{reason} (attempt {self.server.retries + 1}, the last)")

    def report(self, message: str) -> None:
        """Prints to stderr, once, without the key and without what a terminal would obey."""
        if message not in self.reported:
            self.reported.add(message)
            print(printable(self.clean(message)), file=sys.stderr)

    def clean(self, text: str) -> str:
        """`text` without the key, and without what no file holds."""
        return str(clean(text, self.key))

    async def _obstacles(self) -> list[str | None]:
        """Why each endpoint cannot be used."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(endpoint.obstacle()) for endpoint in self.usable]
        return [task.result() for task in tasks]

    def _choose(self, last: Endpoint | None) -> Endpoint:
        """The endpoint with the fewest pending requests; those that just failed come last."""
        now = time.monotonic()
        return min(self.usable, key=lambda e: (e.avoid_until > now, e is last, e.pending))

    def _require_return(self, endpoint: Endpoint, reason: str) -> None:
        """Notes that an endpoint is away. Raises UserError where none is expected to come back."""
        self.require_process()
        now, limit = time.monotonic(), self.server.start_timeout
        if endpoint.away_since is None:
            endpoint.away_since = now
            self.report(self._waiting(reason))
        endpoint.avoid_until = now + BACKOFF
        if all(one.away_since is not None and now - one.away_since > limit for one in self.usable):
            raise UserError(f"{reason}; no server for {limit:g} s (server.start_timeout): start one. {KEPT}")

    def _mark_present(self, endpoint: Endpoint) -> None:
        if endpoint.away_since is not None:
            endpoint.away_since = None
            self.report(f"{endpoint.url}: answers again")

    def require_process(self) -> None:
        """Raises UserError where the server that was started here has ended."""
        if self.process and (failure := self.process.failure(f". {KEPT}")):
            raise UserError(failure)

    def _waiting(self, reason: str | None) -> str:
        return f"{reason}; waiting for it, {self.server.start_timeout:g} s at most (server.start_timeout)"
