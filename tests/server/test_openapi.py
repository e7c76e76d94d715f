"""The OpenAPI document: it has every endpoint, and describes what the endpoints return."""

from __future__ import annotations

from typing import Any

import pytest
from api import Api
from jsonschema import Draft202012Validator
from starlette.routing import Route

from llama_index_mm_zhipu.server.app import build_app
from llama_index_mm_zhipu.server.context import Context, LlmInfo
from llama_index_mm_zhipu.server.openapi import openapi_document

_UNDOCUMENTED = {"/", "/api", "/api/openapi.json"}


def test_every_endpoint_is_described() -> None:
    from concurrent.futures import Future

    app: Any = build_app(Context(Future(), LlmInfo("m", is_mock=True)), host="127.0.0.1")
    routes = {
        (route.path.replace(":path", ""), method.lower())
        for route in app.routes
        if isinstance(route, Route) and route.path not in _UNDOCUMENTED
        for method in (route.methods or ()) - {"HEAD"}
    }
    described = {(path, method) for path, methods in openapi_document()["paths"].items() for method in methods}
    assert described == routes


def test_every_field_and_parameter_has_a_description() -> None:
    document = openapi_document()
    for name, schema in document["components"]["schemas"].items():
        if name not in ("Error", "ErrorResponse"):
            assert all(field.get("description") for field in schema["properties"].values()), name
    for methods in document["paths"].values():
        for operation in methods.values():
            assert all(each["description"] for each in operation.get("parameters", ()))


@pytest.mark.parametrize(
    ("path", "request_path"),
    [
        ("/api/search", "/api/search?words=苹果"),
        ("/api/status", "/api/status"),
        ("/api/details/{id}", "/api/details/红苹果"),
    ],
)
def test_responses_have_the_described_form(api: Api, path: str, request_path: str) -> None:
    document = openapi_document()
    schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(api.client.get(request_path).json())


def test_errors_have_the_described_form(api: Api) -> None:
    document = openapi_document()
    validator = Draft202012Validator(
        {"$ref": "#/components/schemas/ErrorResponse", "components": document["components"]}
    )
    for path in ("/api/search", "/api/images/nothing", "/api/search?x=1"):
        response = api.client.get(path)
        validator.validate(response.json())
        documented = document["paths"].get(path.partition("?")[0], document["paths"]["/api/images/{id}"])["get"]
        assert str(response.status_code) in documented["responses"]


def test_the_page_of_the_document_loads_nothing_from_elsewhere(api: Api) -> None:
    page = api.client.get("/api").text
    assert "http://" not in page
    assert "https://" not in page
    assert api.client.get("/page/api_page.js").status_code == 200
