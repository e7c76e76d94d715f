"""JSON that browsers take, and responses of it, which are never cached."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from llama_index_mm_zhipu.text import replace_lone_surrogates


def json_response(value: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return a value as JSON.

    Args:
        value: What JSON can hold; other values in metadata are written as text.
        headers: Further headers.
    """
    headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(json_text(value), media_type="application/json", headers=headers)


def json_text(value: Any) -> str:
    """Return a value as JSON in one line.

    Args:
        value: As in ``json_response``.
    """
    # Metadata may hold NaN, which browsers do not take for JSON.
    return replace_lone_surrogates(json.dumps(_finite(value), ensure_ascii=False, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value
