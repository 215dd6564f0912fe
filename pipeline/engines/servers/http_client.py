"""The HTTP client of one endpoint: its answers are bounded, and it goes where it was sent and nowhere else."""

import ipaddress
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from pipeline.core.params import UserError, first_line

LARGEST_ANSWER = 2**24  # bytes; 100 draws of 4,096 tokens have 2 MB


def open_client(url: str, key: str) -> Any:
    """OpenAI's client of a base URL. Raises UserError where the environment names a proxy that it cannot use.

    It follows no redirect, which would send pictures and key to another host, and sends no organisation or project of
    the environment, which belong to OpenAI's own endpoint. Retries and timeouts are the caller's.
    """
    import httpx2
    from openai import AsyncOpenAI

    try:
        http = httpx2.AsyncClient(
            headers={"Accept-Encoding": "identity"},
            event_hooks={"response": [_bound]},
            timeout=None,
            trust_env=not is_loopback(url),
        )
    except (ImportError, ValueError) as error:
        raise UserError(
            f"{url}: the proxy of the environment variable {proxy_variable(url)} cannot be used ({first_line(error)}); "
            f"set NO_PROXY={urlsplit(url).hostname}, or another proxy"
        ) from None
    client = AsyncOpenAI(base_url=url, api_key=key or "none", max_retries=0, timeout=None, http_client=http)
    client.organization = client.project = None
    return client


async def _bound(response: Any) -> None:
    """Limits what is read of a response. Compressed ones, which nobody asked for, are refused: 4 MB can hold 4 GB."""
    import httpx2

    encoding = response.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        await response.aclose()
        raise httpx2.ReadError(f"the answer is compressed ({encoding[:20]}), which the request excluded")
    response.stream = _bounded_stream(response.stream)


def _bounded_stream(stream: Any) -> Any:
    import httpx2

    class BoundedStream(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for chunk in stream:
                size += len(chunk)
                if size > LARGEST_ANSWER:
                    raise httpx2.ReadError(f"an answer of more than {LARGEST_ANSWER:,} bytes")
                yield chunk

        async def aclose(self) -> None:
            await stream.aclose()

    return BoundedStream()


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine, which no proxy can reach."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def proxy_variable(url: str) -> str | None:
    """The environment variable with the proxy through which a URL is reached; None where there is none.

    The proxy itself is not shown: its address may hold a password.
    """
    parts = urlsplit(url)
    if is_loopback(url) or proxy_bypass(parts.netloc):
        return None
    names = [f"{parts.scheme}_proxy", "all_proxy"]
    return next((name for one in names for name in (one, one.upper()) if os.environ.get(name)), None)
