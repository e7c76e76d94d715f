"""``/api/index``: add images, with progress as server-sent events; whoever leaves stops it."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llama_index_mm_zhipu.server import uploads
from llama_index_mm_zhipu.server.context import Context
from llama_index_mm_zhipu.server.errors import ServerError, bad_request, described
from llama_index_mm_zhipu.server.events import Event, EventResponse, Events
from llama_index_mm_zhipu.server.forms import Form, read_files
from llama_index_mm_zhipu.server.uploads import Upload
from llama_index_mm_zhipu.service.inputs import IndexInputs
from llama_index_mm_zhipu.service.results import IndexReport

FILES = "files"
"""Name of the files in forms."""


class _StoppedError(Exception):
    """Raised to end an indexing run whose reader left."""


def index_routes(context: Context) -> list[Route]:
    """Return the routes that change the index."""

    async def index(request: Request) -> Response:
        folder = context.uploads
        if folder is None:
            raise ServerError(403, "forbidden", "this server is read-only; add images with mmzhipu index")
        # Refuses before the files are sent.
        _ = context.service
        form = await read_files(request)
        try:
            if form.fields or form.files.keys() != {FILES}:
                raise bad_request(f"give files, each with the name {FILES!r}, and nothing else")
            saved, skipped = await context.asking(lambda: _save(form, folder))
        finally:
            await form.close()
        return EventResponse(_Run(context, saved, skipped).events(), context.streams, on_end=lambda: None)

    return [Route("/api/index", index, methods=["POST"])]


def _save(form: Form, folder: Path) -> tuple[list[Upload], dict[str, str]]:
    saved: list[Upload] = []
    skipped: dict[str, str] = {}
    try:
        for file in form.files[FILES]:
            name = file.filename or "image"
            reason = uploads.refusal_of(name, file.size or 0)
            if reason is None:
                saved.append(uploads.save(file.file, name, folder))
            else:
                skipped[name] = reason
    except BaseException:
        for upload in saved:
            upload.remove()
        raise
    return saved, skipped


class _Run:
    """One indexing run, in a thread of its own: the call does not return before its end.

    Args:
        context: Holds the service.
        saved: The files.
        skipped: Why other files were not saved, by name.
    """

    def __init__(self, context: Context, saved: list[Upload], skipped: dict[str, str]) -> None:
        self._context = context
        self._saved = saved
        self._skipped = skipped
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._is_stopped = threading.Event()

    def events(self) -> Events:
        """Index, and yield the progress and at the end the report or an error."""
        threading.Thread(target=self._run, name="indexing", daemon=True).start()
        try:
            while (event := self._events.get()) is not None:
                yield event
        finally:
            self._is_stopped.set()

    def _run(self) -> None:
        try:
            with self._context.metrics.timed("index"):
                self._events.put(Event("report", self._index()))
        except _StoppedError:
            pass
        except Exception as error:
            _, code, message = described(error)
            message = uploads.renamed(message, self._saved)
            self._events.put(Event("error", {"error": {"code": code, "message": message}}))
        finally:
            for upload in self._saved:
                if not self._context.service.has_images_of(upload.path):
                    upload.remove()
            self._events.put(None)

    def _index(self) -> dict[str, Any]:
        service = self._context.service
        good, unreadable = uploads.readable(self._saved)
        self._skipped |= unreadable
        if not good:
            images, texts = service.index.image_store.count(), service.index.text_store.count()
            return IndexReport(images, texts, 0, 0, 0, self._skipped, len(self._skipped), 0.0).as_dict()
        inputs = IndexInputs([upload.path for upload in good])
        total = len(good) if inputs.is_light else None
        self._events.put(Event("progress", {"done": 0, "total": total}))
        report = service.add(inputs, on_read=lambda done: self._progress(done, total)).as_dict()
        names = {uploads.renamed(name, good): uploads.renamed(why, good) for name, why in report["skipped"].items()}
        report["skipped"] = {**self._skipped, **names}
        report["skipped_count"] += len(self._skipped)
        return report

    def _progress(self, done: int, total: int | None) -> None:
        if self._is_stopped.is_set():
            raise _StoppedError
        self._events.put(Event("progress", {"done": done, "total": total}))
