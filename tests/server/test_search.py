"""``/api/search``: words, images, filters, and what is refused."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from api import Api, error_of, status_of_announced

from llama_index_mm_zhipu.server.forms import MAX_IMAGE_BYTES

# test_ask.py has the quick tests of the server.
pytestmark = pytest.mark.integration


def test_words_find_images_and_texts_with_all_that_is_known_of_them(api: Api) -> None:
    response = api.search(words="红苹果", similarity_top_k=1)
    text, image = response.json()["results"]
    assert (text["type"], text["node_id"], text["text"]) == ("text", "说明", "飞机的说明")
    assert (image["node_id"], image["number"], image["score_type"]) == ("红苹果", 1, "similarity")
    assert image["metadata"]["颜色"] == "红"
    assert 0 < response.json()["seconds"] < 60
    assert response.headers["server-timing"].startswith("search;dur=")


def test_an_image_finds_itself_alone_and_with_words(api: Api, images: dict[str, bytes]) -> None:
    assert api.found(images["闹钟"], similarity_top_k=1)[-1] == "闹钟"
    assert api.found(images["闹钟"], words="闹钟", similarity_top_k=1)[-1] == "闹钟"


def test_json_takes_the_same_parameters_and_the_image_in_base64(api: Api, images: dict[str, bytes]) -> None:
    for text in (
        base64.b64encode(images["彩虹"]).decode(),
        f"data:image/jpeg;base64,{base64.b64encode(images['彩虹']).decode()}",
    ):
        body = {"image": text, "similarity_top_k": 1, "filter": ["价格>=0"], "like": None, "words": []}
        response = api.client.post("/api/search", json=body)
        assert [result["node_id"] for result in response.json()["results"]] == ["彩虹"]


def test_a_head_request_is_checked_like_a_search(api: Api) -> None:
    assert api.client.head("/api/search", params={"words": "车"}).status_code == 200
    assert api.client.head("/api/search", params={"wrods": "车"}).status_code == 400


def test_more_like_an_image_leaves_it_out(api: Api) -> None:
    found = api.found(like="红苹果", similarity_top_k=3)
    assert "红苹果" not in found
    assert len(found) == 3


def test_filters_combine_and_a_cutoff_leaves_out_what_is_less_alike(api: Api) -> None:
    found = api.found(words="水果", filter=["颜色=红", "价格>=20"])
    everything = api.search(words="水果").json()["results"]
    assert set(found) == {
        each["node_id"]
        for each in everything
        if each["metadata"].get("颜色") == "红" and each["metadata"]["价格"] >= 20
    }
    assert api.found(words="红苹果", cutoff=0.9) == ["红苹果"]


def test_a_form_of_a_page_with_an_empty_file_searches_by_words(api: Api) -> None:
    assert "红苹果" in api.client.post("/api/search", data={"words": "红苹果"}, files={"image": ("", b"")}).text


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "nothing to search for: give words, an image, or both"),
        ({"words": "  "}, "nothing to search for"),
        ({"wrods": "车"}, "unknown argument 'wrods'; did you mean 'words'?"),
        ({"words": "车", "similarity_top_k": 0}, "similarity_top_k is '0'"),
        ({"words": "车", "similarity_top_k": "1e9"}, "similarity_top_k is '1e9'"),
        ({"words": "车", "similarity_top_k": [1, 2]}, "similarity_top_k is given 2 times"),
        ({"words": "车", "cutoff": "nan"}, "cutoff is 'nan'"),
        ({"words": "车", "mode": "best"}, "best"),
        ({"words": "车", "filter": "价格"}, "价格"),
        ({"words": "车", "filter": "色彩=紫"}, "颜色"),
        ({"words": "车" * 4001}, "words is"),
        ({"words": "车", "filter": ["价格>1"] * 21}, "filter is"),
    ],
)
def test_bad_parameters_are_one_line(api: Api, parameters: dict[str, object], said: str) -> None:
    status, code, message = error_of(api.search(**parameters))
    assert (status, code) == (400, "bad_request")
    assert said in message
    assert len(message) < 400


def test_an_unknown_id_names_similar_ones(api: Api) -> None:
    status, code, message = error_of(api.search(like="红苹果汁"))
    assert (status, code) == (404, "not_found")
    assert message.startswith("no image has the id 红苹果汁")


@pytest.mark.parametrize(
    ("image", "said"),
    [(b"\xff\xd8\xff broken", "image"), (b"<svg onload=alert(1)>", "image"), (b"GIF89a", "image"), (b"", "empty")],
)
def test_a_broken_image_is_one_line_without_its_content(api: Api, image: bytes, said: str) -> None:
    status, code, message = error_of(api.search(image))
    assert (status, code) == (400, "bad_request")
    assert said in message
    assert "alert" not in message


@pytest.mark.parametrize("text", ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/x.jpg", "不是"])
def test_json_cannot_name_files_or_urls(api: Api, text: str) -> None:
    status, code, message = error_of(api.client.post("/api/search", json={"image": text}))
    assert (status, code) == (400, "bad_request")
    assert "base64" in message or "image" in message


def test_an_image_that_is_too_large_is_refused(api: Api) -> None:
    assert error_of(api.search(bytes(MAX_IMAGE_BYTES + 1)))[:2] == (413, "too_large")
    # Before the body is read.
    assert status_of_announced(api, "/api/search", 10**10) == 413


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("text/plain", b"words", (415, "unsupported")),
        ("application/x-www-form-urlencoded", b"words=a", (415, "unsupported")),
        ("application/json", b"[1]", (400, "bad_request")),
        ("application/json", b'{"words": ' + b"[" * 100_000, (400, "bad_request")),
        ("application/json", b'{"words": {"a": 1}}', (400, "bad_request")),
        ("application/json", b'{"words": true}', (400, "bad_request")),
        ("multipart/form-data", b"", (400, "bad_request")),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--",
            (400, "bad_request"),
        ),
    ],
)
def test_other_bodies_are_refused(api: Api, content_type: str, body: bytes, expected: tuple[int, str]) -> None:
    response = api.client.post("/api/search", content=body, headers={"Content-Type": content_type})
    assert error_of(response)[:2] == expected


def test_several_images_or_files_of_other_names_are_refused(api: Api, images: dict[str, bytes]) -> None:
    image = ("a.jpg", images["飞机"])
    for files in ([("image", image), ("image", image)], [("picture", image)]):
        assert error_of(api.client.post("/api/search", files=files))[:2] == (400, "bad_request")


def test_an_image_of_a_question_is_never_written_to_disk(
    api: Api, images: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Larger than what forms keep in memory by default; anything after the end of a JPEG is ignored.
    image = images["飞机"] + bytes(3 * 1024 * 1024)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "there is no such folder"))
    assert api.found(image, similarity_top_k=1)[-1] == "飞机"
