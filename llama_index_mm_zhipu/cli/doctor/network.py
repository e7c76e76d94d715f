"""Ask hosts whether they can be reached, and check the proxies of the environment."""

from __future__ import annotations

import errno
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, TypeAlias
from urllib.request import getproxies, proxy_bypass

from llama_index_mm_zhipu.cli.doctor.check import Context, Finding
from llama_index_mm_zhipu.cli.doctor.wording import Wording
from llama_index_mm_zhipu.reporting import errors_only

SECONDS = 5.0
"""Time for each step of a request: the connection, and the answer."""

_SECONDS_IN_ALL = 3 * SECONDS
_UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH)

Reason: TypeAlias = Literal["name", "refused", "network", "timeout", "certificate", "certificates", "proxy", "url"]
"""Why a host cannot be reached; ``"certificates"``: those that the environment names cannot be read."""


@dataclass(frozen=True)
class Answer:
    """How a host answered.

    Attributes:
        host: URL of the host, without credentials and path.
        status: HTTP status; 0 if there was no answer.
        size: Size of the content in bytes; 0 if unknown.
        reason: Why there was no answer: a ``Reason``, or the text of another error.
        proxy: The proxy for this host, without credentials; empty if there is none.
    """

    host: str
    status: int = 0
    size: int = 0
    reason: Reason | str = ""
    proxy: str = ""

    def describe(self, words: Wording) -> str:
        """Return a sentence about a host that did not answer."""
        known = words.reasons.get(self.reason)
        reason = self.reason if known is None else known.format(seconds=f"{SECONDS:g}")
        if self.proxy:
            reason = words.through_proxy.format(reason=reason, proxy=self.proxy)
        return words.does_not_answer.format(host=self.host, reason=reason)


def ask(urls: Sequence[str], *, method: Literal["GET", "HEAD"], follow_redirects: bool = False) -> list[Answer]:
    """Return how the hosts of URLs answer. They are asked at the same time, and no content is read.

    Args:
        urls: The URLs. User and password in them are not sent.
        method: Method of the requests.
        follow_redirects: Whether to ask further hosts to which the answers redirect.
    """
    queues: list[queue.SimpleQueue[Answer]] = [queue.SimpleQueue() for _ in urls]
    for url, answers in zip(urls, queues, strict=True):
        # Daemon threads, because the resolution of a name has no timeout and would delay the end of the program.
        thread = threading.Thread(target=lambda u=url, a=answers: a.put(_ask(u, method, follow_redirects)), daemon=True)
        thread.start()
    deadline = time.monotonic() + _SECONDS_IN_ALL
    return [_answer_from(answers, url, deadline) for url, answers in zip(urls, queues, strict=True)]


def check_proxies(context: Context) -> Finding:
    """List the proxies in the environment; those of type SOCKS need a package that httpx does not install."""
    words = context.words
    proxies = _proxies()
    if not proxies:
        return Finding("ok", words.no_proxies)
    detail = words.semicolon.join(f"{scheme}: {url}" for scheme, url in proxies.items())
    if any(url.startswith("socks") for url in getproxies().values()) and find_spec("socksio") is None:
        return Finding("failed", detail, words.proxies_socks_advice)
    return Finding("ok", detail)


def _answer_from(answers: queue.SimpleQueue[Answer], url: str, deadline: float) -> Answer:
    try:
        return answers.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        return Answer(_host_of(url), reason="timeout", proxy=_proxy_for(url))


def _ask(url: str, method: str, follow_redirects: bool) -> Answer:
    import httpx

    from llama_index_mm_zhipu.images.fetch import tls_context
    from llama_index_mm_zhipu.llm.endpoint import is_http_url, split_credentials, without_credentials

    if not is_http_url(url):
        return Answer(without_credentials(url), reason="url")
    host, proxy = _host_of(url), _proxy_for(url)
    try:
        tls = tls_context()
    except OSError:
        return Answer(host, reason="certificates")
    try:
        client = httpx.Client(timeout=SECONDS, verify=tls, follow_redirects=follow_redirects)
    except Exception:
        # The only settings that can be wrong are the proxies; the message may hold their password.
        return Answer(host, reason="proxy", proxy=proxy)
    try:
        # httpx would log the URL.
        with errors_only("httpx", "httpcore"), client, client.stream(method, split_credentials(url)[0]) as response:
            return Answer(host, response.status_code, int(response.headers.get("Content-Length", 0)))
    except Exception as error:
        return Answer(host, reason=_reason_of(error), proxy=proxy)


def _reason_of(error: Exception) -> Reason | str:
    import httpx

    causes = list(_causes(error))
    if isinstance(error, httpx.ProxyError):
        return "proxy"
    if isinstance(error, httpx.TimeoutException):
        return "timeout"
    kinds: tuple[tuple[type[BaseException], Reason], ...] = (
        (socket.gaierror, "name"),
        (ConnectionRefusedError, "refused"),
        (ssl.SSLCertVerificationError, "certificate"),
    )
    for kind, reason in kinds:
        if any(isinstance(cause, kind) for cause in causes):
            return reason
    unreachable = any(getattr(cause, "errno", None) in _UNREACHABLE for cause in causes)
    return "network" if unreachable else f"{type(error).__name__}: {error}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def _host_of(url: str) -> str:
    import httpx

    parsed = httpx.URL(url)
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"


def _proxies() -> dict[str, str]:
    """Return the proxies for HTTP and HTTPS by scheme, without credentials, as httpx finds them."""
    from llama_index_mm_zhipu.llm.endpoint import without_credentials

    proxies = getproxies()
    return {scheme: without_credentials(proxies[scheme]) for scheme in ("http", "https", "all") if proxies.get(scheme)}


def _proxy_for(url: str) -> str:
    import httpx

    parsed = httpx.URL(url)
    proxies = _proxies()
    return "" if proxy_bypass(parsed.host) else proxies.get(parsed.scheme, proxies.get("all", ""))
