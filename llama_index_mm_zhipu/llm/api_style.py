"""The two forms of a request: Zhipu's own, and that of OpenAI's protocol, which vLLM and SGLang speak."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import httpx

Style: TypeAlias = Literal["glm", "openai"]

ApiStyle: TypeAlias = Literal["auto", "glm", "openai"]
"""Form of requests.

``"glm"``: Zhipu's fields, images in raw base64; ``"openai"``: standard fields only, images as data URIs; ``"auto"``:
``"glm"`` for hosts of Zhipu and Z.ai and for addresses that end in ``/v4``, ``"openai"`` for all others.
"""

_DOMAINS = ("bigmodel.cn", "z.ai")
# Servers of one's own refuse these or leave them unread; what they mean goes out in fields that such servers know.
_GLM_FIELDS = ("do_sample", "request_id", "thinking", "user_id")
# First characters of the base64 of the two formats that images are sent in.
_MIME_TYPES = {"/9j/": "image/jpeg", "iVBORw": "image/png"}


def style_at(api_style: ApiStyle, api_base: str) -> Style:
    """Return the form of requests to an address."""
    if api_style != "auto":
        return api_style
    url = httpx.URL(api_base)
    is_zhipu = any(url.host == domain or url.host.endswith(f".{domain}") for domain in _DOMAINS)
    return "glm" if is_zhipu or url.path.rstrip("/").endswith("/v4") else "openai"


def openai_body(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request of Zhipu's form in the form of OpenAI's protocol; the given one stays as it is.

    ``user_id`` becomes ``user``; ``do_sample=False`` becomes a temperature of 0; ``thinking`` becomes an argument of
    the chat template, where vLLM and SGLang look for it. ``request_id`` is left out. Streams are asked for their usage.
    """
    standard = {name: value for name, value in body.items() if name not in _GLM_FIELDS}
    if "user_id" in body:
        standard.setdefault("user", body["user_id"])
    if body.get("do_sample") is False:
        standard.pop("top_p", None)
        standard["temperature"] = 0
    if (thinking := body.get("thinking")) is not None:
        enabled = thinking.get("type") != "disabled" if isinstance(thinking, dict) else bool(thinking)
        standard["chat_template_kwargs"] = {
            "enable_thinking": enabled,
            **(standard.get("chat_template_kwargs") or {}),
        }
    if body.get("stream"):
        standard.setdefault("stream_options", {"include_usage": True})
    return standard


def data_uri(url: str) -> str:
    """Return the raw base64 of a JPEG or PNG as a data URI; addresses stay as they are."""
    mime_type = next((mime_type for start, mime_type in _MIME_TYPES.items() if url.startswith(start)), None)
    return url if mime_type is None else f"data:{mime_type};base64,{url}"
