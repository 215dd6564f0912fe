"""The HTTP client of one endpoint: its answers are bounded, and it goes where it was sent and nowhere else."""

import ipaddress
import os
import socket
import zlib
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
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),  # concurrency is the caller's
            timeout=None,
            trust_env=not is_loopback(url),
        )
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        raise UserError(
            f"{url}: the proxy of the environment variable {proxy_variable(url)} cannot be used ({first_line(error)}); "
            f"set NO_PROXY={urlsplit(url).hostname}, or another proxy"
        ) from None
    except OSError as error:
        raise UserError(
            f"{url}: the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read ({first_line(error)}); "
            "unset the variable, or name others"
        ) from None
    client = AsyncOpenAI(base_url=url, api_key=key or "none", max_retries=0, timeout=None, http_client=http)
    client.organization = client.project = None
    return client


async def _bound(response: Any) -> None:
    """Limits what is read of a response, also of a compressed one: 4 MB can hold 4 GB."""
    import httpx2

    encoding = response.headers.pop("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        await response.aclose()
        raise httpx2.ReadError(f"the answer is compressed ({encoding[:20]}), which the request excluded")
    response.stream = _bounded_stream(response.stream, compressed=encoding not in ("", "identity"))


def _bounded_stream(stream: Any, compressed: bool) -> Any:
    import httpx2

    class BoundedStream(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            size, gunzip = 0, zlib.decompressobj(wbits=47) if compressed else None  # 47: gzip or zlib, by its head
            async for chunk in stream:
                try:
                    content = gunzip.decompress(chunk, LARGEST_ANSWER + 1) if gunzip else chunk
                except zlib.error as error:
                    raise httpx2.ReadError(f"the answer cannot be unpacked ({error})") from None
                size += len(content)
                if size > LARGEST_ANSWER:
                    raise httpx2.ReadError(f"an answer of more than {LARGEST_ANSWER:,} bytes")
                yield content

        async def aclose(self) -> None:
            await stream.aclose()

    return BoundedStream()


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine, which no proxy can reach: 0.0.0.0, which servers print, does as well."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(host))  # 127.1
        except (OSError, ValueError):
            return host == "localhost" or host.endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def proxy_variable(url: str) -> str | None:
    """The environment variable with the proxy through which a URL is reached; None where there is none.

    The proxy itself is not shown: its address may hold a password.
    """
    parts = urlsplit(url)
    if is_loopback(url) or proxy_bypass(parts.netloc):
        return None
    names = [f"{parts.scheme}_proxy", "all_proxy"]
    return next((name for one in names for name in (one, one.upper()) if os.environ.get(name)), None)
