"""Sends requests to OpenAI-compatible endpoints: which endpoint, how often, and what a failure means."""

import asyncio
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.params import UserError
from pipeline.core.terminal import printable
from pipeline.core.urls import is_http
from pipeline.core.words import some
from pipeline.engines.servers.api_key import clean
from pipeline.engines.servers.budget import Budget, BudgetError, Server
from pipeline.engines.servers.failures import (
    FATAL_STATUSES,
    LONGEST_WAIT,
    REDIRECTED,
    REDIRECTS,
    RETRY_STATUSES,
    NoAnswerError,
    NoModelError,
    message_of,
    retry_after,
)
from pipeline.engines.servers.http_client import open_client, proxy_variable
from pipeline.engines.servers.wire import choices, parse_json, rejected_fields, shown

BACKOFF = 1.0  # seconds: the longest wait before the first retry; it doubles with every further one
LONGEST_LISTING = 30.0  # seconds for GET /models, which needs no model
LONGEST_REASON = 400  # characters


@dataclass
class _Endpoint:
    url: str
    client: Any
    slots: asyncio.Semaphore
    proxy: str | None  # the environment variable that names it
    pending: int = 0  # requests in flight or in the queue
    avoid_until: float = 0.0  # after a failure, others come first until then


@dataclass
class Endpoints:
    """The server's endpoints that serve `model`. `connect` opens them, within an event loop."""

    server: Server
    model: str
    budget: Budget
    key: str
    usable: list[_Endpoint] = field(default_factory=list)

    async def connect(self) -> None:
        """Raises UserError where no endpoint serves the model, an ExceptionGroup of it where the key is rejected."""
        self.usable = [
            _Endpoint(
                url,
                # Its own retries would bypass the budget, and its own timeout does not bound a slow body.
                open_client(url, self.key),
                asyncio.Semaphore(self.server.concurrency),
                proxy_variable(url),
            )
            for url in dict.fromkeys(self._base(url) for url in self.server.endpoints)
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._obstacle(endpoint)) for endpoint in self.usable]
        obstacles = [task.result() for task in tasks]
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
        last = None
        for attempt in range(self.server.retries + 1):
            endpoint = self._choose(last)
            endpoint.pending += 1
            try:
                async with endpoint.slots:
                    answer, reason, wait = await self._try(endpoint, body)
            finally:
                endpoint.pending -= 1
            if answer is not None:
                endpoint.avoid_until = 0.0
                return answer
            last, longest = endpoint, min(LONGEST_WAIT, BACKOFF * 2 ** min(attempt, 20))
            endpoint.avoid_until = time.monotonic() + max(wait, longest)
            if attempt < self.server.retries:
                # Full jitter: requests that failed together are not retried together.
                await asyncio.sleep(wait + random.uniform(0, longest))
        raise NoAnswerError(f"{reason} (attempt {self.server.retries + 1}, the last)")

    def _base(self, url: str) -> str:
        """A base URL without its last slash. Raises UserError."""
        if not is_http(url):
            raise UserError(
                self.clean(f"server.endpoints has {url!r}; it must have URLs such as http://localhost:8000/v1")
            )
        return url.rstrip("/")

    def report(self, message: str) -> None:
        """Prints to stderr, without the key and without what a terminal would obey."""
        print(printable(self.clean(message)), file=sys.stderr)

    def clean(self, text: str) -> str:
        """`text` without the key, and without what no file holds."""
        return str(clean(text, self.key))

    def _reason(self, endpoint: _Endpoint, error: object) -> str:
        """One line with what went wrong where, of limited length, without the key."""
        line = " ".join(self.clean(f"{endpoint.url}: {error}").split())
        if endpoint.proxy:
            line = f"(through the proxy that {endpoint.proxy} names; NO_PROXY lists hosts without one) {line}"
        return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 1]}…"

    def _choose(self, last: _Endpoint | None) -> _Endpoint:
        """The endpoint with the fewest pending requests; those that just failed come last."""
        now = time.monotonic()
        return min(self.usable, key=lambda e: (e.avoid_until > now, e is last, e.pending))

    async def _try(self, endpoint: _Endpoint, body: dict[str, Any]) -> tuple[dict[str, Any] | None, str, float]:
        """One attempt: the answer, or the reason why there is none and the minimum wait in seconds."""
        import openai

        self.budget.charge()
        try:
            async with asyncio.timeout(self.server.timeout):
                raw = await endpoint.client.chat.completions.with_raw_response.create(**body)
        except openai.APIStatusError as error:
            status, reason = error.status_code, self._reason(endpoint, message_of(error, self.key))
            if status == 403 and rejected_fields(reason, body):  # a feature is forbidden, and not the model
                raise NoAnswerError(reason, rejection=True) from None
            if status in REDIRECTS:
                raise UserError(f"{reason}; {REDIRECTED}") from None
            if status in FATAL_STATUSES or error.code == "insufficient_quota":
                raise self._fatal(reason, status) from None
            if status not in RETRY_STATUSES and status < 500:
                raise NoAnswerError(reason, rejection=True) from None
            return None, reason, retry_after(error.response.headers.get("retry-after"))
        except TimeoutError:
            return None, self._reason(endpoint, f"no answer within {self.server.timeout:g} s"), 0.0
        except openai.APIConnectionError as error:
            return None, self._reason(endpoint, error.__cause__ or error), 0.0
        answer = parse_json(raw.content, self.key)
        self.budget.count(answer)
        if not choices(answer):
            return None, self._reason(endpoint, f"no choices in the answer: {shown(raw.content, self.key)}"), 0.0
        return answer, "", 0.0

    async def _obstacle(self, endpoint: _Endpoint) -> str | None:
        """Why this endpoint cannot be used, or None. Raises UserError where the key is rejected."""
        import openai

        try:
            async with asyncio.timeout(min(self.server.timeout, LONGEST_LISTING)):
                raw = await endpoint.client.models.with_raw_response.list()
        except openai.APIStatusError as error:
            reason = self._reason(endpoint, message_of(error, self.key))
            if error.status_code in (401, 402, 403):
                raise self._fatal(reason, error.status_code) from None
            if error.status_code in REDIRECTS:
                return f"{reason}; {REDIRECTED}"
            if error.status_code >= 500 and not await self._answers(endpoint):
                return reason
            return None  # it answers, but has no list of models
        except TimeoutError:
            return self._reason(endpoint, "no answer to GET /models")
        except openai.APIConnectionError as error:
            return self._reason(endpoint, error.__cause__ or error)
        listing = parse_json(raw.content, self.key)
        entries = listing.get("data") if isinstance(listing, dict) else None
        entries = entries if isinstance(entries, list) else []
        names = [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]
        if not names or self.model in names or await self._answers(endpoint):
            return None
        return self._reason(endpoint, f"serves {some(names, 5)}, not {self.model}")

    async def _answers(self, endpoint: _Endpoint) -> bool:
        """Whether it serves the model after all: transformers serve lists the cached models, not the served one."""
        body = {"model": self.model, "messages": [{"role": "user", "content": "."}], "max_tokens": 1}
        try:
            return (await self._try(endpoint, body))[0] is not None
        except (NoAnswerError, BudgetError, NoModelError):
            return False

    def _fatal(self, reason: str, status: int) -> UserError:
        if status == 404:
            return NoModelError(f"{reason}; fix server.endpoints or the model's name (docs/scale.md)")
        name = self.server.key_variable
        if status == 403 and self.key:
            return UserError(f"{reason}; the server forbids it: check what the key in {name} may use, or change it")
        state = f"{name} is set" if self.key else f"{name} is not set"
        return UserError(f"{reason}; the environment variable {state}: `export {name}=…` with a valid key")
