"""What a server's failure means: which statuses are final, which worth another try, and how long to wait before it."""

import re
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
KEPT = "The finished draws are kept, and the same command continues with the others"
MOST_REFUSALS = 5  # pictures


class AwayError(Exception):
    """A request that has reached no server, since none accepted the connection."""


class NoAnswerError(Exception):
    """A request without an answer: rejected by the server, or failed at the last retry."""

    def __init__(self, reason: str, rejection: bool = False):
        super().__init__(reason)
        self.reason, self.rejection = reason, rejection


class Refusals:
    """Rejected requests since the start, as long as none has an answer: is it the pictures, or the settings?"""

    def __init__(self) -> None:
        self._images: dict[str, set[str]] | None = {}  # by reason, without its numbers; None after an answer

    def end(self) -> None:
        """There is an answer: from now on a rejection is about its picture."""
        self._images = None

    def add(self, image_id: str, reason: str) -> None:
        """Raises UserError where MOST_REFUSALS pictures have been rejected in the same words, and none accepted."""
        if self._images is None:
            return
        images = self._images.setdefault(re.sub(r"\d+", "#", reason), set())
        images.add(image_id)
        if len(images) >= MOST_REFUSALS:
            raise UserError(
                f"{reason}; the server rejects every request so far in these words: change the setting that they "
                "name, here or at the server, then run the same command again"
            )


class NoModelError(UserError):
    """An endpoint does not serve the model, or is no endpoint."""


def message_of(error: Any, key: str) -> str:
    """The server's message with an error status: `error.message` of the API, else the body."""
    message = error.body.get("message") if isinstance(error.body, dict) else None
    return f"HTTP {error.status_code}: {message or shown(error.response.content, key)}"


def refused_connection(error: BaseException | None) -> bool:
    """Whether no connection came about, so that the server has seen nothing of the request."""
    import httpx2

    while error is not None:
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return True
        error = error.__cause__
    return False


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
