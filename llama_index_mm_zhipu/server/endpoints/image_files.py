"""``/api/images`` and ``/api/details``: images of the index as JPEG, and what is known of them."""

from __future__ import annotations

import threading

from cachetools import TTLCache
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llama_index_mm_zhipu.server.context import Context
from llama_index_mm_zhipu.server.errors import bad_request
from llama_index_mm_zhipu.server.responses import json_response

SIDES = {"thumbnail": 320, "whole": 4096}
"""Longer side in pixels at most, by size."""

_CACHE_BYTES = 64 * 1024 * 1024
# Files may change: browsers and this server keep an image so long.
_CACHE_SECONDS = 300


class Thumbnails:
    """Images that were reduced, by id and size. Threads may share them."""

    def __init__(self) -> None:
        self._cache: TTLCache[tuple[str, str], bytes] = TTLCache(_CACHE_BYTES, _CACHE_SECONDS, getsizeof=len)
        self._lock = threading.Lock()

    def get(self, context: Context, node_id: str, size: str) -> bytes:
        """Return an image as JPEG.

        Args:
            context: Holds the service.
            node_id: Id of the image.
            size: One of ``SIDES``.

        Raises:
            ImageError: The image cannot be read any more.
            UnknownNodeError: No image has this id.
        """
        key = (node_id, size)
        with self._lock:
            data = self._cache.get(key)
        if data is None:
            data = context.service.look(node_id, max_side=SIDES[size]).data
            if len(data) <= _CACHE_BYTES:
                with self._lock:
                    self._cache[key] = data
        return data


def image_routes(context: Context) -> list[Route]:
    """Return the routes of images. Ids have slashes, and are looked up in the store: they are no paths."""
    thumbnails = Thumbnails()

    async def image(request: Request) -> Response:
        size = request.query_params.get("size", "thumbnail")
        if size not in SIDES:
            raise bad_request(f"size is {size[:20]!r}; it is one of {', '.join(SIDES)}")
        node_id = request.path_params["id"]
        data = await context.reading_images(lambda: thumbnails.get(context, node_id, size))
        headers = {"Cache-Control": f"private, max-age={_CACHE_SECONDS}"}
        return Response(data, media_type="image/jpeg", headers=headers)

    async def details(request: Request) -> Response:
        node_id, words = request.path_params["id"], request.query_params.get("words", "")
        found = await context.searching(lambda: context.service.details(node_id, words))
        return json_response(found.as_dict())

    return [Route("/api/images/{id:path}", image), Route("/api/details/{id:path}", details)]
