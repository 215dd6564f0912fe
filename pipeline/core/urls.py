"""Recognises HTTP URLs."""

from urllib.parse import urlsplit


def is_http(url: str) -> bool:
    """Whether it is a whole http or https URL."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
