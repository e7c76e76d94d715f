"""``/api/index``: add images, with progress as server-sent events; whoever leaves stops it."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llama_index_mm_zhipu.server.context import Context
from llama_index_mm_zhipu.server.errors import ServerError, bad_request, described
from llama_index_mm_zhipu.server.events import Event, EventResponse, SendEvent, StoppedError, error_event
from llama_index_mm_zhipu.server.forms import Form, read_files
from llama_index_mm_zhipu.server.uploads import Upload, Uploads, readable, refusal_of, renamed
from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.service.inputs import IndexInputs
from llama_index_mm_zhipu.service.results import IndexReport

FILES = "files"
"""Name of the files in forms."""


def index_routes(context: Context) -> list[Route]:
    """Return the routes that change the index."""

    async def index(request: Request) -> Response:
        uploads = context.uploads
        if uploads is None:
            raise ServerError(403, "forbidden", "this server is read-only; add images with mmzhipu index")
        # Refuses before the files are sent.
        service = context.service
        form = await read_files(request)
        try:
            if form.fields or form.files.keys() != {FILES}:
                raise bad_request(f"give files, each with the name {FILES!r}, and nothing else")
            saved, skipped = await context.asking(lambda: _save(form, uploads))
        finally:
            await form.close()

        def work(send: SendEvent) -> Event:
            with context.metrics.timed("index"):
                return _index(service, saved, skipped, send)

        return EventResponse(work, context.streams, on_end=lambda: uploads.release(saved))

    return [Route("/api/index", index, methods=["POST"])]


def _save(form: Form, uploads: Uploads) -> tuple[list[Upload], dict[str, str]]:
    """Save the files of a form; return them, and why others were not saved by name."""
    saved: list[Upload] = []
    skipped: dict[str, str] = {}
    try:
        for file in form.files[FILES]:
            name = file.filename or "image"
            reason = refusal_of(name, file.size or 0)
            if reason is None:
                saved.append(uploads.save(file.file, name))
            else:
                skipped[name] = reason
    except BaseException:
        uploads.release(saved)
        raise
    return saved, skipped


def _index(service: ImageService, saved: list[Upload], skipped: dict[str, str], send: SendEvent) -> Event:
    try:
        good, unreadable = readable(saved)
        return Event("report", _report(service, good, skipped | unreadable, send))
    except StoppedError:
        raise
    except Exception as error:
        _, code, message = described(error)
        return error_event(code, renamed(message, saved))


def _report(service: ImageService, good: list[Upload], skipped: dict[str, str], send: SendEvent) -> dict[str, Any]:
    """Index files, and return the report, in which they have the names that users know."""
    if not good:
        images, texts = service.index.image_store.count(), service.index.text_store.count()
        return IndexReport(images, texts, 0, 0, 0, skipped, len(skipped), 0.0).as_dict()
    paths = {upload.path for upload in good}
    inputs = IndexInputs([*paths])
    total = len(paths) if inputs.is_light else None

    def progress(done: int) -> None:
        send(Event("progress", {"done": done, "total": total}))

    progress(0)
    report = service.add(inputs, on_read=progress).as_dict()
    names = {renamed(name, good): renamed(why, good) for name, why in report["skipped"].items()}
    return {**report, "skipped": skipped | names, "skipped_count": report["skipped_count"] + len(skipped)}
