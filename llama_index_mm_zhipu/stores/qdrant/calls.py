"""Calls of one ``QdrantClient``: in turn where they must be, closed when nobody needs it, with errors that advise."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, WeakSet

import httpx
from grpc import RpcError, StatusCode
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ApiException, ResponseHandlingException, UnexpectedResponse

from llama_index_mm_zhipu.stores.backend import require_same_process
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.vector_store.errors import StoreError

T = TypeVar("T")

_CALL_ERRORS = (
    ApiException,
    QdrantException,
    RpcError,
    RuntimeError,
    ValueError,
    AssertionError,
    sqlite3.Error,
    OSError,
)
_DEFAULT_ADDRESS = "localhost"
_NOT_QDRANT = "the answer is not that of a Qdrant server of this client's version; check the client's URL and port"
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`")


class ClientCalls:
    """The calls of one client. All collections of a client share them: ``calls_of`` returns the client's own.

    Args:
        client: The client.

    Attributes:
        is_local: Whether the client is in local mode, which has no indexes.
        place: Where its collections are, for messages.
    """

    def __init__(self, client: QdrantClient) -> None:
        options = client.init_options
        self.is_local = options.get("location") == ":memory:" or options.get("path") is not None
        # Local mode changes its lists and arrays step by step, and two threads would lose points.
        self._turn: AbstractContextManager[Any] = threading.RLock() if self.is_local else nullcontext()
        self._users: WeakSet[Any] = WeakSet()
        self.place = _place(options)
        self._process = os.getpid()
        self._may_be_forked = options.get("location") == ":memory:"

    def add_user(self, user: object) -> None:
        """Note that an object needs the client."""
        self._users.add(user)

    def remove_user(self, user: object) -> bool:
        """Note that an object needs the client no longer, and return whether it was the last one."""
        self._users.discard(user)
        return not self._users

    @contextmanager
    def reporting(self, store: str) -> Iterator[None]:
        """Run calls, in turn if the client needs that, and raise their errors as ``StoreError``.

        Args:
            store: Name of the store.

        Raises:
            CollectionMissingError: There seems to be no such collection.
            StoreError: Another error. Its message holds neither the API key nor values of the call.
        """
        if not self._may_be_forked:
            require_same_process(store, self._process)
        with self._turn:
            try:
                yield
            except _CALL_ERRORS as error:
                failed = CollectionMissingError if _says_missing(error) else StoreError
                raise failed(f"{store}: {_reason(error)}") from None


class CollectionMissingError(StoreError):
    """The server knows no such collection, or something between does not know the server."""


_CALLS: WeakKeyDictionary[QdrantClient, ClientCalls] = WeakKeyDictionary()
_CALLS_LOCK = threading.Lock()


def calls_of(client: QdrantClient) -> ClientCalls:
    """Return the calls of a client, always the same for the same client."""
    with _CALLS_LOCK:
        if client not in _CALLS:
            _CALLS[client] = ClientCalls(client)
        return _CALLS[client]


def _place(options: dict[str, Any]) -> str:
    """Return where a client's collections are, without user, password and key."""
    if options.get("location") == ":memory:":
        return "in memory"
    if (path := options.get("path")) is not None:
        return f"in {one_line(str(path))}"
    address = options.get("url") or options.get("location") or options.get("host") or _DEFAULT_ADDRESS
    parts = urlsplit(address if "//" in address else f"//{address}")
    return f"at {parts.hostname or _DEFAULT_ADDRESS}:{parts.port or options.get('port')}"


def _says_missing(error: Exception) -> bool:
    if isinstance(error, UnexpectedResponse):
        return error.status_code == 404
    if isinstance(error, RpcError):
        return _grpc_code(error) is StatusCode.NOT_FOUND
    return type(error) is ValueError and str(error).endswith("not found")


def _reason(error: Exception) -> str:
    """Return what happened and what to do."""
    if isinstance(error, UnexpectedResponse):
        return _reason_of_response(error)
    if isinstance(error, ResponseHandlingException):
        return _reason_of_transport(error.source)
    # The client asserts that answers have a result.
    if isinstance(error, json.JSONDecodeError | AssertionError):
        return _NOT_QDRANT
    if isinstance(error, ResourceExhaustedResponse):
        return f"the server limits requests; try again in {error.retry_after_s} s, or raise its limit"
    if isinstance(error, RpcError):
        code = _grpc_code(error)
        return f"gRPC call failed ({getattr(code, 'name', 'unknown code')}); check the server, its port and the API key"
    if isinstance(error, sqlite3.ProgrammingError):
        return "its client belongs to one thread; make it with QdrantClient(path, force_disable_check_same_thread=True)"
    if isinstance(error, RuntimeError) and "closed" in str(error):
        return "its client was closed; make a new QdrantClient"
    return f"the call failed: {type(error).__name__}: {_without_values(str(error))}"


def _reason_of_transport(source: Exception) -> str:
    if isinstance(source, httpx.TimeoutException):
        return "no answer in time; try again, or give the client a longer time: QdrantClient(…, timeout=60)"
    if isinstance(source, httpx.TransportError):
        return f"cannot reach the server ({type(source).__name__}); check that it runs, and the client's URL and port"
    return _NOT_QDRANT


def _reason_of_response(error: UnexpectedResponse) -> str:
    advice: dict[int | None, str] = {
        401: "give QdrantClient the right api_key",
        403: "give QdrantClient an api_key that may do this",
        404: "check the collection's name and the client's URL",
        413: "the nodes are too large for one request; give image_storage=… for images, and split long texts",
    }
    # Whoever refuses a key may quote it.
    message = "" if error.status_code in (401, 403) else _message_of(error)
    said = f": {message}" if message else ""
    status = f"the server answered HTTP {error.status_code}{said}"
    return f"{status}; {advice.get(error.status_code, 'see the log of the server')}"


def _message_of(error: UnexpectedResponse) -> str:
    """Return Qdrant's own message; empty if the answer is that of a proxy."""
    try:
        message = error.structured()["status"]["error"]
    except (ValueError, KeyError, TypeError):
        return ""
    return _without_values(str(message))


def _without_values(message: str) -> str:
    """Return a message without what it quotes, which may be a value of the call."""
    return one_line(_QUOTED.sub("'…'", message))


def _grpc_code(error: RpcError) -> Any:
    # Errors of calls have the method, which the base class lacks.
    code: Callable[[], Any] | None = getattr(error, "code", None)
    return code() if code is not None else None
