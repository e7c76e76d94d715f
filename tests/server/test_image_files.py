"""``/api/images`` and ``/api/details``: images by id alone, and the lines that OCR found."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from pathlib import Path

import pytest
from api import Api, Serve, error_of, opened
from llama_index.core.schema import ImageNode
from PIL import Image

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.images import with_page_text
from llama_index_mm_zhipu.service.image_service import ImageService


def test_a_thumbnail_is_small_and_the_whole_is_as_large_as_the_image(
    serve: Serve, demo_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    file = tmp_path / "大 图?#%.png"
    Image.new("RGBA", (1200, 900), "red").save(file)
    index = build_index(file, demo_embedding)
    api = serve(opening=opened(ImageService(index)))
    node_id = api.found(words="红")[0]
    sizes = {}
    for size in ("thumbnail", "whole"):
        response = api.client.get(
            f"/api/images/{node_id.replace('%', '%25').replace('?', '%3F').replace('#', '%23')}", params={"size": size}
        )
        assert response.headers["content-type"] == "image/jpeg"
        assert response.headers["cache-control"].startswith("private")
        sizes[size] = Image.open(BytesIO(response.content)).size
    assert sizes == {"thumbnail": (320, 240), "whole": (1200, 900)}


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "..%2F..%2Fetc%2Fpasswd",
        "%2Fetc%2Fpasswd",
        "....//etc/passwd",
        "%00",
        "x" * 5000,
        "说明",
        "%ff",
    ],
)
@pytest.mark.parametrize("endpoint", ["images", "details"])
def test_an_id_is_no_path(api: Api, endpoint: str, path: str) -> None:
    status, code, message = error_of(api.client.get(f"/api/{endpoint}/{path}"))
    assert (status, code) == (404, "not_found")
    assert "root:" not in message


def test_an_unknown_size_names_the_sizes(api: Api) -> None:
    assert error_of(api.client.get("/api/images/飞机?size=9999"))[2].endswith("thumbnail, whole")


def test_an_image_whose_file_is_gone_is_an_error_that_names_it(
    serve: Serve, demo_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    file = tmp_path / "会消失.png"
    Image.new("RGB", (8, 8)).save(file)
    api = serve(opening=opened(ImageService(build_index(file, demo_embedding))))
    node_id = api.found(words="红")[0]
    file.unlink()
    status, code, message = error_of(api.client.get(f"/api/images/{node_id}"))
    assert (status, code) == (400, "bad_request")
    assert "会消失.png" in message


def test_details_mark_the_lines_with_the_words_and_give_their_boxes(
    serve: Serve, demo_embedding: ChineseClipEmbedding, images: dict[str, bytes]
) -> None:
    lines = [
        {"text": "轮胎气压", "box": [0.1, 0.1, 0.5, 0.2], "score": 0.99},
        {"text": "更换机油", "box": [0.1, 0.3, 0.5, 0.4], "score": 0.98},
    ]
    page = ImageNode(id_="手册", image=b64encode(images["飞机"]).decode())
    node = with_page_text(page, "轮胎气压 更换机油", "ocr", lines)
    api = serve(opening=opened(ImageService(build_index([node], demo_embedding))))
    details = api.client.get("/api/details/手册", params={"words": "气压多少"}).json()
    assert [(line["text"], line["is_match"]) for line in details["lines"]] == [("轮胎气压", True), ("更换机油", False)]
    assert details["lines"][0]["box"] == [0.1, 0.1, 0.5, 0.2]
    assert "轮胎气压" in details["result"]["text"]
    assert api.client.get("/api/details/手册").json()["lines"][0]["is_match"] is False
