"""``/api/search``: find images by words, by an image, or both."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llama_index_mm_zhipu.server.context import Context
from llama_index_mm_zhipu.server.endpoints.inputs import read_inputs
from llama_index_mm_zhipu.server.parameters import SearchParameters
from llama_index_mm_zhipu.server.responses import json_response
from llama_index_mm_zhipu.service.results import SearchResult


def search_routes(context: Context) -> list[Route]:
    """Return the routes of searches."""

    async def search(request: Request) -> Response:
        service = context.service
        asked, image = await read_inputs(request, SearchParameters)

        def find() -> tuple[list[SearchResult], float]:
            started = time.perf_counter()
            with context.metrics.timed("search"):
                found = service.search(
                    asked.words,
                    image=image,
                    like=asked.like,
                    similarity_top_k=asked.similarity_top_k,
                    filters=asked.filter,
                    mode=asked.mode,
                    similarity_cutoff=asked.cutoff,
                )
            return found.results, time.perf_counter() - started

        results, seconds = await context.searching(find)
        return json_response(
            {"results": [result.as_dict() for result in results], "seconds": round(seconds, 4)},
            {"Server-Timing": f"search;dur={seconds * 1000:.1f}"},
        )

    return [Route("/api/search", search, methods=["GET", "POST"])]
