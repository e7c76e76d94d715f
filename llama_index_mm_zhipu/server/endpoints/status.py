"""``/api/status``, ``/healthz`` and ``/metrics``: what the server and its index are doing."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from llama_index_mm_zhipu import __version__
from llama_index_mm_zhipu.server.context import Context
from llama_index_mm_zhipu.server.errors import ServerError
from llama_index_mm_zhipu.server.forms import MAX_FILE_BYTES, MAX_FILES, MAX_IMAGE_BYTES
from llama_index_mm_zhipu.server.metrics import CONTENT_TYPE
from llama_index_mm_zhipu.server.parameters import MAX_TOP_K, MAX_WORDS
from llama_index_mm_zhipu.server.responses import json_response
from llama_index_mm_zhipu.service.inputs import file_suffixes


def status_routes(context: Context) -> list[Route]:
    """Return the routes of status, health and metrics."""

    async def status(request: Request) -> Response:
        state, error = _state_of(context)
        opened = await context.searching(lambda: _opened(context)) if state == "ready" else {}
        return json_response(
            {
                "state": state,
                "error": error,
                "version": __version__,
                "index": None,
                "filters": [],
                "llm": {"model": context.llm.model, "is_mock": context.llm.is_mock},
                "can_add": context.uploads is not None,
                "limits": {
                    "words": MAX_WORDS,
                    "similarity_top_k": MAX_TOP_K,
                    "image_bytes": MAX_IMAGE_BYTES,
                    "file_bytes": MAX_FILE_BYTES,
                    "files": MAX_FILES,
                },
                "suffixes": [],
                **opened,
            }
        )

    async def health(request: Request) -> Response:
        state, _ = _state_of(context)
        return PlainTextResponse(f"{state}\n", 200 if state == "ready" else 503)

    async def metrics(request: Request) -> Response:
        state, _ = _state_of(context)
        images = None
        if state == "ready":
            images = await context.searching(context.service.index.image_store.count)
        return Response(context.metrics.text(images=images, chats=len(context.chats)), media_type=CONTENT_TYPE)

    return [Route("/api/status", status), Route("/healthz", health), Route("/metrics", metrics)]


def _state_of(context: Context) -> tuple[str, dict[str, str] | None]:
    try:
        _ = context.service
    except ServerError as error:
        if error.code == "loading":
            return "loading", None
        return "failed", {"code": error.code, "message": str(error)}
    return "ready", None


def _opened(context: Context) -> dict[str, Any]:
    return {
        "index": context.service.status().as_dict(),
        "filters": [option.as_dict() for option in context.service.filter_options()],
        "suffixes": file_suffixes(),
    }
