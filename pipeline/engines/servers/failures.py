"""What a server's failure means: which statuses are final, which worth another try, and how long to wait before it."""

import time
from email.utils import parsedate_to_datetime
from typing import Any

from pipeline.core.params import UserError
from pipeline.engines.servers.wire import shown

LONGEST_WAIT = 60.0  # seconds, whatever Retry-After says
FATAL_STATUSES = (401, 402, 403, 404)  # no key, credit, permission or model: every further request would fail too
REDIRECTED = "redirects are not followed: set server.endpoints to where it leads"
REDIRECTS = (301, 302, 303, 307, 308)
RETRY_STATUSES = (408, 409, 425, 429)


class NoAnswerError(Exception):
    """A request without an answer: rejected by the server, or failed at the last retry."""

    def __init__(self, reason: str, rejection: bool = False):
        super().__init__(reason)
        self.reason, self.rejection = reason, rejection


class NoModelError(UserError):
    """An endpoint does not serve the model, or is no endpoint."""


def message_of(error: Any, key: str) -> str:
    """The server's message with an error status: `error.message` of the API, else the body."""
    message = error.body.get("message") if isinstance(error.body, dict) else None
    return f"HTTP {error.status_code}: {message or shown(error.response.content, key)}"


def retry_after(header: str | None) -> float:
    """Seconds, from a number or an HTTP date; 0 where the header is neither."""
    try:
        wait = float(header or 0)
    except ValueError:
        try:
            wait = parsedate_to_datetime(header or "").timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(wait, 0.0), LONGEST_WAIT) if wait == wait else 0.0
