"""The settings of a server, and the budget of requests and tokens."""

from dataclasses import dataclass
from typing import Any

from pipeline.core import timings
from pipeline.core.params import UserError
from pipeline.core.words import counted
from pipeline.engines.servers.wire import choices, usage


@dataclass(frozen=True)
class Server:
    """Where the model is served, and the limits of load, waiting and budget."""

    endpoints: tuple[str, ...]  # base URLs such as http://host:8000/v1, all serving the same model
    command: str  # starts a server of the model; "" where there are endpoints
    start_timeout: float  # seconds that a server may take to start, and may be away
    gpus: int  # that a server started by the command sees
    dialect: str  # openai (what the API defines), vllm or sglang (further sampling settings too)
    draws_per_request: int
    concurrency: int  # requests in flight per endpoint
    timeout: float  # seconds for one request
    retries: int  # further attempts after the first
    max_requests: int  # 0 = no limit; retries count
    max_tokens: int  # 0 = no limit; prompt and completion, as the server's usage reports them
    key_variable: str  # the environment variable that holds the key; local servers need none


class BudgetError(Exception):
    """The budget allows no further request."""


@dataclass
class Budget:
    """Requests and tokens spent so far, over the life of an engine, and their limits."""

    server: Server
    requests: int = 0
    tokens: int = 0

    def charge(self) -> None:
        """Counts a request before it is sent. Raises BudgetError."""
        server = self.server
        if (server.max_requests and self.requests >= server.max_requests) or (
            server.max_tokens and self.tokens >= server.max_tokens
        ):
            raise BudgetError
        self.requests += 1

    def refund(self) -> None:
        """A request that has reached no server costs nothing."""
        self.requests -= 1

    def count(self, answer: Any) -> None:
        """Counts the tokens of a response. Raises UserError if there is a limit and the server reports none."""
        used = sum(usage(answer, name) for name in ("prompt_tokens", "completion_tokens"))
        timings.record(prompt_tokens=usage(answer, "prompt_tokens"))
        self.tokens += used
        if self.server.max_tokens and not used and choices(answer):
            raise UserError(
                "the server does not report how many tokens it used, so server.max_tokens cannot be enforced; set it "
                "to 0 and limit server.max_requests"
            )

    def message(self) -> str:
        """What was spent and what to do next, as one sentence."""
        server = self.server
        requests, tokens = counted(self.requests, "request"), counted(self.tokens, "token")
        return (
            f"the budget is used up: {requests} (server.max_requests {server.max_requests}) and {tokens} "
            f"(server.max_tokens {server.max_tokens}; 0 is no limit); finished draws are cached: raise the limit, or "
            "run the same command again to continue with a fresh budget"
        )
