"""What a server's responses say of a download: its version, when to try again, where it redirects to."""

import re
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

LONGEST_WAIT = 60.0  # seconds, whatever Retry-After says


@dataclass(frozen=True)
class ResumeNote:
    """What the beginning in the partial file is a beginning of. Kept beside it."""

    url: str
    md5: str
    total: int | None
    validator: str | None  # the server's name for this version: a strong ETag, or when it was last changed


class HttpRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, a limited number of them, to nothing but HTTP."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise HTTPError(newurl, code, f"redirects to {newurl}, which is not http or https", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def header(response: Any, name: str) -> str:
    return str(response.headers.get(name) or "").strip()


def validator(response: Any) -> str | None:
    """The server's name for this version of the file, None where it has none that can be sent back."""
    for value in (header(response, "ETag"), header(response, "Last-Modified")):
        if value and value.isascii() and value.isprintable() and not value.startswith("W/"):
            return value
    return None


def retry_after(header: str | None) -> float:
    return min(float(header), LONGEST_WAIT) if header and re.fullmatch("[0-9]{1,9}", header.strip()) else 0.0
