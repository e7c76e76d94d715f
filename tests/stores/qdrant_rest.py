"""Qdrant's local mode behind the REST API of a server, so that tests see what a client really sends and receives.

It shows that requests and answers survive JSON. What a server does with them, such as its indexes, it does not show.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import ValidationError
from qdrant_client import QdrantClient, models
from waiting import PATIENCE


class QdrantServer(ThreadingHTTPServer):
    """A server on a free port of 127.0.0.1; ``serving.serving`` runs it.

    Attributes:
        requests: Method and path of each request.
        indexes: Types of payload indexes by collection and field.
        key: API key that requests must have; None for none.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.local = QdrantClient(":memory:")
        self.turn = threading.Lock()
        self.requests: list[str] = []
        self.indexes: dict[str, dict[str, Any]] = {}
        self.key: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def client(self, **options: Any) -> QdrantClient:
        return QdrantClient(url=self.url, check_compatibility=False, timeout=int(PATIENCE), **options)

    def answer(self, method: str, path: str, body: Any) -> Any:
        name, _, action = path.removeprefix("/collections/").partition("/")
        self.requests.append(f"{method} {action}")
        if f"{method} {action}" == "GET exists":
            return {"exists": self.local.collection_exists(name)}
        if f"{method} {action}" == "PUT index":
            self.indexes.setdefault(name, {})[body["field_name"]] = body["field_schema"]
            return models.UpdateResult(status=models.UpdateStatus.COMPLETED)
        answers: dict[str, Callable[[str, Any], Any]] = {
            "GET ": self._describe,
            "PUT ": self._create,
            "DELETE ": lambda name, _: self.local.delete_collection(name),
            "PUT points": self._upsert,
            "POST points": self._retrieve,
            "POST points/query": self._query,
            "POST points/scroll": self._scroll,
            "POST points/delete": self._delete,
            "POST points/count": self._count,
        }
        return answers[f"{method} {action}"](name, body)

    def _describe(self, name: str, _: Any) -> Any:
        indexes = {
            field: models.PayloadIndexInfo(data_type=schema, points=0)
            for field, schema in self.indexes.get(name, {}).items()
        }
        return self.local.get_collection(name).model_copy(update={"payload_schema": indexes})

    def _create(self, name: str, body: Any) -> bool:
        asked = models.CreateCollection.model_validate(body)
        return self.local.create_collection(name, asked.vectors, asked.sparse_vectors)

    def _upsert(self, name: str, body: Any) -> Any:
        return self.local.upsert(name, models.PointsList.model_validate(body).points)

    def _retrieve(self, name: str, body: Any) -> Any:
        asked = models.PointRequest.model_validate(body)
        return self.local.retrieve(name, asked.ids, asked.with_payload or False, asked.with_vector or False)

    def _query(self, name: str, body: Any) -> Any:
        asked = models.QueryRequest.model_validate(body)
        return self.local.query_points(
            name,
            query=asked.query.nearest if isinstance(asked.query, models.NearestQuery) else asked.query,
            using=asked.using,
            query_filter=asked.filter,
            limit=asked.limit or 10,
            with_payload=asked.with_payload or False,
        )

    def _scroll(self, name: str, body: Any) -> Any:
        asked = models.ScrollRequest.model_validate(body)
        points, offset = self.local.scroll(
            name,
            scroll_filter=asked.filter,
            limit=asked.limit or 10,
            offset=asked.offset,
            with_payload=asked.with_payload or False,
            with_vectors=asked.with_vector or False,
        )
        return {"points": points, "next_page_offset": offset}

    def _delete(self, name: str, body: Any) -> Any:
        is_filter = "filter" in body
        selector = models.FilterSelector.model_validate(body) if is_filter else models.PointIdsList.model_validate(body)
        return self.local.delete(name, selector)

    def _count(self, name: str, body: Any) -> Any:
        return self.local.count(name, models.CountRequest.model_validate(body).filter)


class _Handler(BaseHTTPRequestHandler):
    server: QdrantServer

    def do_GET(self) -> None:
        self._respond()

    def do_PUT(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def do_DELETE(self) -> None:
        self._respond()

    def _respond(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.key is not None and self.headers.get("api-key") != self.server.key:
            self._send(401, {"status": {"error": f"Invalid API key {self.headers.get('api-key')}"}})
            return
        try:
            # JSON has no Infinity and no NaN, which Python would accept.
            body = json.loads(content, parse_constant=_refuse) if content else None
            with self.server.turn:
                result = self.server.answer(self.command, self.path.partition("?")[0], body)
            self._send(200, {"result": result, "status": "ok", "time": 0.0})
        except ValidationError as error:
            self._send(400, {"status": {"error": f"Format error in JSON body: {error}"}})
        except ValueError as error:
            status = 404 if str(error).endswith("not found") else 400
            self._send(status, {"status": {"error": f"Wrong input: {error}"}})

    def _send(self, status: int, answer: Any) -> None:
        content = json.dumps(answer, default=lambda each: each.model_dump(mode="json"), allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Do not print requests."""


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
