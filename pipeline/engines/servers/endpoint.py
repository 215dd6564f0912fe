"""One endpoint of an OpenAI-compatible API: whether it serves the model, and one attempt at a request."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.params import UserError
from pipeline.core.urls import is_http
from pipeline.core.words import some
from pipeline.engines.servers.api_key import clean
from pipeline.engines.servers.budget import Budget, BudgetError, Server
from pipeline.engines.servers.failures import (
    FATAL_STATUSES,
    REDIRECTED,
    REDIRECTS,
    RETRY_STATUSES,
    AwayError,
    NoAnswerError,
    NoModelError,
    message_of,
    refused_connection,
    retry_after,
)
from pipeline.engines.servers.http_client import open_client, proxy_variable
from pipeline.engines.servers.wire import choices, parse_json, rejected_fields, shown

LONGEST_LISTING = 30.0  # seconds for GET /models, which needs no model
LONGEST_REASON = 400  # characters


@dataclass
class Endpoint:
    """The endpoint at a base URL. It belongs to the event loop in which it was made.

    Attributes:
        pending: requests in flight or in the queue.
        avoid_until: after a failure, others come first until then (monotonic seconds).
        away_since: when it stopped accepting connections; None while it does.
    """

    url: str
    server: Server
    model: str
    budget: Budget
    key: str
    pending: int = 0
    avoid_until: float = 0.0
    away_since: float | None = None
    client: Any = field(init=False)

    def __post_init__(self) -> None:
        if not is_http(self.url):
            expected = "it must have URLs such as http://localhost:8000/v1"
            raise UserError(clean(f"server.endpoints has {self.url!r}; {expected}", self.key))
        # Its own retries would bypass the budget, and its own timeout does not bound a slow body.
        self.client = open_client(self.url, self.key)
        self.slots = asyncio.Semaphore(self.server.concurrency)
        self.proxy = proxy_variable(self.url)

    async def attempt(self, body: dict[str, Any]) -> tuple[dict[str, Any] | None, str, float]:
        """The answer to a chat completion, or the reason why there is none and the minimum wait in seconds.

        Raises NoAnswerError where no further attempt would help, AwayError where no connection came about, BudgetError,
        and UserError where no request can succeed.
        """
        import openai

        self.budget.charge()
        try:
            async with asyncio.timeout(self.server.timeout):
                raw = await self.client.chat.completions.with_raw_response.create(**body)
        except openai.APIStatusError as error:
            status, reason = error.status_code, self._reason(message_of(error, self.key))
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
            return None, self._reason(f"no answer within {self.server.timeout:g} s"), 0.0
        except openai.APIConnectionError as error:
            reason = self._reason(error.__cause__ or error)
            if refused_connection(error):
                self.budget.refund()
                raise AwayError(reason) from None
            return None, reason, 0.0
        answer = parse_json(raw.content, self.key)
        self.budget.count(answer)
        if not choices(answer):
            return None, self._reason(f"no choices in the answer: {shown(raw.content, self.key)}"), 0.0
        return answer, "", 0.0

    async def obstacle(self) -> str | None:
        """Why this endpoint cannot be used, or None. Raises UserError where the key is rejected."""
        import openai

        try:
            async with asyncio.timeout(min(self.server.timeout, LONGEST_LISTING)):
                raw = await self.client.models.with_raw_response.list()
        except openai.APIStatusError as error:
            reason = self._reason(message_of(error, self.key))
            if error.status_code in (401, 402, 403):
                raise self._fatal(reason, error.status_code) from None
            if error.status_code in REDIRECTS:
                return f"{reason}; {REDIRECTED}"
            if error.status_code >= 500 and not await self._answers():
                return reason
            return None  # it answers, but has no list of models
        except TimeoutError:
            return self._reason("no answer to GET /models")
        except openai.APIConnectionError as error:
            return self._reason(error.__cause__ or error)
        listing = parse_json(raw.content, self.key)
        entries = listing.get("data") if isinstance(listing, dict) else None
        entries = entries if isinstance(entries, list) else []
        names = [str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry]
        if not names or self.model in names or await self._answers():
            return None
        return self._reason(f"serves {some(names, 5)}, not {self.model}")

    async def _answers(self) -> bool:
        """Whether it serves the model after all: transformers serve lists the cached models, not the served one."""
        body = {"model": self.model, "messages": [{"role": "user", "content": "."}], "max_tokens": 1}
        try:
            return (await self.attempt(body))[0] is not None
        except (NoAnswerError, BudgetError, NoModelError, AwayError):
            return False

    def _reason(self, error: object) -> str:
        """One line with what went wrong where, of limited length, without the key."""
        line = " ".join(str(clean(f"{self.url}: {error}", self.key)).split())
        if self.proxy:
            line = f"(through the proxy that {self.proxy} names; NO_PROXY lists hosts without one) {line}"
        return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 1]}…"

    def _fatal(self, reason: str, status: int) -> UserError:
        if status == 404:
            return NoModelError(f"{reason}; fix server.endpoints or the model's name (docs/scale.md)")
        name = self.server.key_variable
        if status == 403 and self.key:
            return UserError(f"{reason}; the server forbids it: check what the key in {name} may use, or change it")
        state = f"{name} is set" if self.key else f"{name} is not set"
        return UserError(f"{reason}; the environment variable {state}: `export {name}=…` with a valid key")
