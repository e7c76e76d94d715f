"""The OpenAPI document of the API, made of the types that the endpoints use, and the page that shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from llama_index_mm_zhipu import __version__
from llama_index_mm_zhipu.server.endpoints.indexing import FILES
from llama_index_mm_zhipu.server.endpoints.inputs import IMAGE
from llama_index_mm_zhipu.server.forms import MAX_FILES
from llama_index_mm_zhipu.server.parameters import AskParameters, Parameters, SearchParameters
from llama_index_mm_zhipu.server.responses import json_response
from llama_index_mm_zhipu.service.results import Answer, FilterOption, ImageDetails, IndexReport, SearchResult
from llama_index_mm_zhipu.service.status import IndexStatus

_TYPES: tuple[type, ...] = (SearchResult, Answer, ImageDetails, FilterOption, IndexReport, IndexStatus)

_ATTRIBUTE = re.compile(r" {4}(\w+): (.+)")
_IMAGE_FILE = {"type": "string", "format": "binary", "description": "The image to search by, or that is asked about."}
_ERRORS = {
    "400": "A parameter is not understood, or an image cannot be read.",
    "401": "The token is missing.",
    "403": "Another page asks, or the server is read-only.",
    "404": "No image has this id.",
    "409": "The conversation is being answered.",
    "410": "The conversation is not known any more.",
    "413": "The request is too large.",
    "415": "The body is of another type.",
    "501": "An extra is not installed.",
    "502": "The model did not answer.",
    "503": "The model is being loaded, there is no key, or the index cannot be read or written.",
    "507": "The disk is full.",
}


def openapi_routes(page: Path) -> list[Route]:
    """Return the routes of the document and of its page.

    Args:
        page: Folder of the pages.
    """

    async def document(request: Request) -> Response:
        return json_response(openapi_document())

    async def shown(request: Request) -> Response:
        return FileResponse(page / "api.html", headers={"Cache-Control": "no-cache"})

    return [Route("/api/openapi.json", document), Route("/api", shown)]


@cache
def openapi_document() -> dict[str, Any]:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mmzhipu",
            "version": __version__,
            "description": "Search the images of an index, and ask questions about them.",
        },
        "components": {"schemas": _schemas(), "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
        "paths": {**_searching(), **_asking(), **_images(), **_indexing(), **_watching()},
    }


def _searching() -> dict[str, Any]:
    found = _object(results=_list_of("SearchResult"), seconds={"type": "number", "description": "Time of the search."})
    responses = _responses(_json(found), "400", "404", "413", "415", "503")
    return {
        "/api/search": {
            "get": {
                "summary": "Find images by words, or by an image of the index.",
                "parameters": _query(SearchParameters),
                "responses": _without(responses, "413", "415"),
            },
            "post": {
                "summary": "Find images by an image that is sent, with words or without.",
                "requestBody": _body_with_image(SearchParameters),
                "responses": responses,
            },
        }
    }


def _asking() -> dict[str, Any]:
    events = {"text/event-stream": {"schema": {"type": "string", "description": _ASK_EVENTS}}}
    return {
        "/api/ask": {
            "post": {
                "summary": "Answer a question from the images found for it, as server-sent events.",
                "description": _ASK_EVENTS,
                "requestBody": _body_with_image(AskParameters),
                "responses": _responses(events, "400", "404", "409", "410", "413", "415", "502", "503"),
            }
        },
        "/api/chats/{chat}": {
            "delete": {
                "summary": "Forget a conversation.",
                "parameters": [_in_path("chat", "Id of the conversation.")],
                "responses": {"204": {"description": "It is forgotten."}},
            }
        },
    }


_ASK_EVENTS = (
    "Events: sources {chat, sources: SearchResult[]}, then text {text} for each piece of the answer, then answer "
    "(Answer); or error {error: {code, message}}. Send chat with the next question to go on with the conversation."
)
_INDEX_EVENTS = (
    "Events: progress {done, total}, then report (IndexReport); or error {error: {code, message}}. Closing the "
    "connection stops the run; what was done is stored, and sending the files again goes on."
)


def _images() -> dict[str, Any]:
    size = {
        "name": "size",
        "in": "query",
        "description": "thumbnail: 320 pixels at most; whole: 4096 at most.",
        "schema": {"type": "string", "enum": ["thumbnail", "whole"], "default": "thumbnail"},
    }
    words = {
        "name": "words",
        "in": "query",
        "description": "Words that were searched for; lines with any of them are marked.",
        "schema": {"type": "string", "default": ""},
    }
    node_id = _in_path("id", "Id of the image, as searches return it.")
    jpeg = {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "/api/images/{id}": {
            "get": {
                "summary": "An image as JPEG.",
                "parameters": [node_id, size],
                "responses": _responses(jpeg, "400", "404", "503"),
            }
        },
        "/api/details/{id}": {
            "get": {
                "summary": "What is known of an image, with the lines that OCR found in it and their boxes.",
                "parameters": [node_id, words],
                "responses": _responses(_json(_ref("ImageDetails")), "404", "503"),
            }
        },
    }


def _indexing() -> dict[str, Any]:
    files = {"type": "array", "maxItems": MAX_FILES, "items": {"type": "string", "format": "binary"}}
    events = {"text/event-stream": {"schema": {"type": "string", "description": _INDEX_EVENTS}}}
    return {
        "/api/index": {
            "post": {
                "summary": "Add images, PDF files, slides or videos, with progress as server-sent events.",
                "description": _INDEX_EVENTS,
                "requestBody": {
                    "required": True,
                    "content": {"multipart/form-data": {"schema": _object(**{FILES: files})}},
                },
                "responses": _responses(events, "400", "403", "413", "415", "503", "507"),
            }
        }
    }


def _watching() -> dict[str, Any]:
    nullable_status = {"anyOf": [_ref("IndexStatus"), {"type": "null"}]}
    status = _object(
        state={"type": "string", "enum": ["loading", "ready", "failed"]},
        error={"anyOf": [_ref("Error"), {"type": "null"}]},
        version={"type": "string"},
        index=nullable_status,
        filters=_list_of("FilterOption"),
        llm=_object(model={"type": "string"}, is_mock={"type": "boolean"}),
        can_add={"type": "boolean"},
        limits={"type": "object", "additionalProperties": {"type": "integer"}},
        suffixes={"type": "array", "items": {"type": "string"}},
    )
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "/api/status": {
            "get": {
                "summary": "What the index holds, and what the server can do.",
                "responses": _responses(_json(status)),
            }
        },
        "/healthz": {
            "get": {
                "summary": "Whether searches can be answered.",
                "security": [],
                "responses": {
                    "200": {"description": "They can.", "content": text},
                    "503": {"description": "The model is being loaded, or could not be.", "content": text},
                },
            }
        },
        "/metrics": {"get": {"summary": "Counters in the format of Prometheus.", "responses": _responses(text)}},
    }


def _schemas() -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    template = "#/components/schemas/{model}"
    for each in _TYPES:
        schema = TypeAdapter(each).json_schema(mode="serialization", ref_template=template)
        schemas |= schema.pop("$defs", {}) | {each.__name__: schema}
    for schema in schemas.values():
        _describe_fields(schema)
    schemas["Error"] = _object(code={"type": "string"}, message={"type": "string"})
    schemas["ErrorResponse"] = _object(error=_ref("Error"))
    return schemas


def _describe_fields(schema: dict[str, Any]) -> None:
    """Move the descriptions of fields from the docstring of a class to the fields."""
    first_line, _, attributes = schema.get("description", "").partition("\n\nAttributes:\n")
    schema["description"] = first_line
    name = ""
    for line in attributes.splitlines():
        if match := _ATTRIBUTE.fullmatch(line):
            name = match[1]
            schema["properties"][name]["description"] = match[2]
        else:
            schema["properties"][name]["description"] += f" {line.strip()}"


def _query(parameters: type[Parameters]) -> list[dict[str, Any]]:
    properties = parameters.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "description": schema.get("description", ""),
            "schema": _without(schema, "title", "description"),
        }
        for name, schema in properties.items()
    ]


def _body_with_image(parameters: type[Parameters]) -> dict[str, Any]:
    """Return a body that is a form with a file, or JSON with the image in base64."""
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": _with_image(parameters, _IMAGE_FILE)},
            "application/json": {"schema": _with_image(parameters, {"type": "string", "description": "Base64."})},
        },
    }


def _with_image(parameters: type[Parameters], image: Mapping[str, Any]) -> dict[str, Any]:
    schema = parameters.model_json_schema()
    return {**schema, "properties": {**schema["properties"], IMAGE: dict(image)}}


def _responses(content: Mapping[str, Any], *errors: str) -> dict[str, Any]:
    failed = _json(_ref("ErrorResponse"))
    # Any request may lack the token, or come from another page.
    described = {status: {"description": _ERRORS[status], "content": failed} for status in ("401", "403", *errors)}
    return {"200": {"description": "Done.", "content": dict(content)}, **described}


def _in_path(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}


def _json(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": dict(schema)}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list_of(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _ref(name)}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}
