"""``/api/status``, ``/healthz``, ``/metrics``: while the service opens, when it is open, and when it could not be."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from api import Api, Serve, error_of

from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.vector_store.errors import ModelMismatchError


def test_status_tells_what_the_index_holds_and_what_filters_there_are(api: Api) -> None:
    status = api.client.get("/api/status").json()
    assert (status["state"], status["error"], status["index"]["images"]) == ("ready", None, 10)
    assert status["llm"] == {"model": "glm-4.6v-flash", "is_mock": False}
    by_key = {option["key"]: option for option in status["filters"]}
    assert by_key["价格"] == {"key": "价格", "types": ["number"], "values": [], "min": 10, "max": 100}
    assert by_key["颜色"]["values"] == sorted({"白", "红", "黄", "彩", "绿"})
    assert ".pdf" in status["suffixes"]
    assert ".jsonl" not in status["suffixes"]


def test_the_key_is_nowhere(api: Api, key: str) -> None:
    for path in ("/api/status", "/metrics", "/healthz", "/api/openapi.json"):
        assert key not in api.client.get(path).text


def test_while_the_model_is_loaded_the_page_is_there_and_searches_say_so(serve: Serve) -> None:
    opening: Future[ImageService] = Future()
    api = serve(opening=opening)
    try:
        assert api.client.get("/api/status").json()["state"] == "loading"
        assert (api.client.get("/healthz").status_code, api.client.get("/healthz").text) == (503, "loading\n")
        assert error_of(api.search(words="车"))[:2] == (503, "loading")
        assert error_of(api.ask("车"))[:2] == (503, "loading")
        assert api.client.get("/").status_code == 200
        assert api.client.get("/metrics").status_code == 200
    finally:
        opening.cancel()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelMismatchError("the index was built with another model"), "store"),
        (FileNotFoundError("no index in x"), "store"),
        (ValueError("the index holds no images yet"), "bad_request"),
        (ImportError("install openvino"), "unsupported"),
    ],
)
def test_an_index_that_cannot_be_opened_is_an_error_of_every_request(serve: Serve, error: Exception, code: str) -> None:
    opening: Future[ImageService] = Future()
    opening.set_exception(error)
    api = serve(opening=opening)
    status = api.client.get("/api/status").json()
    assert (status["state"], status["error"]) == ("failed", {"code": code, "message": str(error)})
    assert error_of(api.search(words="车")) == (503, code, str(error))
    assert api.client.get("/healthz").status_code == 503


def test_metrics_count_requests_by_endpoint_and_not_by_path(api: Api) -> None:
    api.search(words="车")
    api.search()
    for name in ("a", "b", "../c"):
        api.client.get(f"/api/images/{name}")
        api.client.get(f"/{name}")
    text = api.client.get("/metrics").text
    assert 'mmzhipu_requests_total{endpoint="/api/search",status="200"} 1.0' in text
    assert 'mmzhipu_requests_total{endpoint="/api/search",status="400"} 1.0' in text
    assert 'mmzhipu_requests_total{endpoint="/api/images",status="404"} 2.0' in text
    assert 'mmzhipu_seconds_count{work="search"} 2.0' in text
    assert "mmzhipu_images 10.0" in text


def test_unknown_paths_and_methods_are_json_errors(api: Api) -> None:
    assert error_of(api.client.get("/api/nothing"))[:2] == (404, "not_found")
    assert error_of(api.client.put("/api/search"))[:2] == (405, "bad_request")
