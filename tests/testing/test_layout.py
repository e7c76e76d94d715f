"""The mock server answers layout_parsing in the form of the API, and refuses what the API refuses."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from raw_client import KEY, Client, encoded

from llama_index_mm_zhipu.testing import Cut, Delay, ErrorAnswer, MockGLMServer, SentPage, layout

LECTURE = Path(__file__).parents[2] / "examples" / "cases" / "lecture.pdf"
PARAMETER = (400, "1210", "API 调用参数有误，请检查文档。")
INVALID_FILE = (400, "1214", "file 参数非法。请检查文档。")
TOO_LARGE = (400, "1210", "文件大小超过限制")


def uri(data: bytes | str, mime_type: str = "image/png") -> str:
    text = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    return f"data:{mime_type};base64,{text}"


PDF = uri(LECTURE.read_bytes(), "application/pdf")


def post(client: Client, **fields: Any) -> tuple[int, dict[str, Any]]:
    """Return status and parsed body of an answer. Fields that are None are left out."""
    body = {name: value for name, value in {"model": "glm-ocr", **fields}.items() if value is not None}
    response = client.http.post("/layout_parsing", json=body)
    return response.status_code, response.json()


def refusal(client: Client, **fields: Any) -> tuple[int, str, str]:
    status, body = post(client, **fields)
    return status, body["error"]["code"], body["error"]["message"]


# Answers


def test_an_image_is_described_on_one_page(client: Client, red: str) -> None:
    status, body = post(client, file=uri(red), request_id="first-1")
    text = "（本地模拟服务，不是模型）PNG 30×20"
    assert status == 200
    assert body["md_results"] == text
    assert body["layout_details"] == [
        [{"index": 1, "label": "text", "content": text, "bbox_2d": [0, 0, 30, 20], "width": 30, "height": 20}]
    ]
    assert body["data_info"] == {"num_pages": 1, "pages": [{"width": 30, "height": 20}]}
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    assert body["request_id"] == "first-1"
    assert client.server.requests == [{"model": "glm-ocr", "file": uri(red), "request_id": "first-1"}]


def test_pages_of_a_pdf_file_have_the_lines_of_their_text_layer(shared: Client) -> None:
    _, body = post(shared, file=PDF)
    assert len(body["layout_details"]) == body["data_info"]["num_pages"] == 10
    first = body["layout_details"][1][0]
    assert (first["content"], first["bbox_2d"][:2], first["bbox_2d"][2]) == ("训练集与测试集", [0, 0], first["width"])
    assert "训练集用来拟合模型的参数" in body["md_results"]


def test_a_range_of_pages_is_read(shared: Client) -> None:
    _, body = post(shared, file=PDF, start_page_id=2, end_page_id=3)
    assert [page[0]["content"] for page in body["layout_details"]] == ["训练集与测试集", "线性回归"]
    assert len(post(shared, file=PDF, start_page_id=9)[1]["layout_details"]) == 2


def test_a_url_is_one_page_and_not_fetched(shared: Client) -> None:
    _, body = post(shared, file="https://example.com/scan.pdf")
    assert body["md_results"] == "（本地模拟服务，不是模型）没有文字层的页面"


def test_a_rule_says_what_is_read(red: str) -> None:
    seen: list[SentPage] = []

    def read(page: SentPage) -> list[dict[str, Any]]:
        seen.append(page)
        return [
            {"label": "image", "bbox_2d": [1, 2, 3, 4]},
            {"label": "table", "content": "<table></table>", "bbox_2d": None},
        ]

    with MockGLMServer(layout=read) as server, Client(server).http as http:
        body = http.post("/layout_parsing", json={"model": "GLM-OCR", "file": uri(red)}).json()
    assert body["md_results"] == "![](page=0,bbox=[1, 2, 3, 4])\n\n<table></table>"
    assert [(each["index"], each["label"], each.get("content")) for each in body["layout_details"][0]] == [
        (1, "image", None),
        (2, "table", "<table></table>"),
    ]
    assert [(page.number, page.width, page.height, page.text) for page in seen] == [(1, 30, 20, "")]
    assert seen[0].image is not None
    assert seen[0].image.getpixel((0, 0)) == (255, 0, 0)


# Refusals


@pytest.mark.parametrize("model", ["glm-4v-flash", "", None, 7])
def test_other_models_are_refused(shared: Client, model: Any, red: str) -> None:
    assert refusal(shared, model=model, file=uri(red)) == (400, "1211", "模型不存在，请检查模型代码。")


def test_a_missing_file_is_refused(shared: Client) -> None:
    assert refusal(shared) == (400, "1213", "未正常接收到file参数。")


@pytest.mark.parametrize("file", [7, ["a"], "", "scan.png", "data:image/png;base64,*", "BASE64"])
def test_what_is_neither_a_url_nor_a_data_uri_is_refused(shared: Client, file: Any, red: str) -> None:
    assert refusal(shared, file=red if file == "BASE64" else file) == INVALID_FILE


def test_damaged_files_are_refused(shared: Client) -> None:
    assert refusal(shared, file=uri(b"no image")) == (400, "1210", "图片输入格式/解析错误")
    assert refusal(shared, file=uri(b"%PDF-1.7 no pages")) == (400, "1210", "文件输入格式/解析错误")
    webp = encoded(Image.new("RGB", (9, 9)), "WEBP")
    assert refusal(shared, file=uri(webp)) == (400, "1210", "图片输入格式/解析错误")


def test_files_that_are_too_large_are_refused(shared: Client, red: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (layout.MAX_IMAGE_BYTES, layout.MAX_PDF_BYTES) == (10 * 2**20, 50 * 2**20)
    monkeypatch.setattr(layout, "MAX_IMAGE_BYTES", len(base64.b64decode(red)) - 1)
    monkeypatch.setattr(layout, "MAX_PDF_BYTES", LECTURE.stat().st_size)
    assert refusal(shared, file=uri(red)) == TOO_LARGE
    assert post(shared, file=PDF)[0] == 200
    assert refusal(shared, file=uri(LECTURE.read_bytes() + b"\n", "application/pdf")) == TOO_LARGE


@pytest.mark.parametrize(("start", "end"), [(0, None), (11, None), (1, 11), (3, 2), ("1", 2), (True, 2)])
def test_pages_that_are_not_in_the_file_are_refused(shared: Client, start: Any, end: Any) -> None:
    assert refusal(shared, file=PDF, start_page_id=start, end_page_id=end) == PARAMETER


def test_more_than_100_pages_are_refused(shared: Client, tmp_path: Path) -> None:
    pypdfium2 = pytest.importorskip("pypdfium2")
    document = pypdfium2.PdfDocument.new()
    for _ in range(101):
        document.new_page(72, 72)
    document.save(tmp_path / "long.pdf")
    document.close()
    file = uri((tmp_path / "long.pdf").read_bytes(), "application/pdf")
    assert refusal(shared, file=file) == (400, "1210", "文件页数超过限制")
    assert post(shared, file=file, start_page_id=2)[0] == 200


@pytest.mark.parametrize(("headers", "code"), [({}, "1001"), ({"Authorization": "Bearer nodot"}, "1002")])
def test_bad_keys_are_refused(server: MockGLMServer, client: Client, headers: dict[str, str], code: str) -> None:
    request = client.http.build_request("POST", "/layout_parsing", json={})
    del request.headers["Authorization"]
    request.headers.update(headers)
    response = client.http.send(request)
    assert (response.status_code, response.json()["error"]["code"]) == (401, code)


def test_only_the_given_key_is_accepted(red: str) -> None:
    with MockGLMServer(api_key="other.key") as server:
        client = Client(server)
        with client.http:
            assert refusal(client, file=uri(red))[:2] == (401, "1002")
            client.http.headers["Authorization"] = "Bearer other.key"
            assert post(client, file=uri(red))[0] == 200
            assert server.authorizations == [KEY["Authorization"], "Bearer other.key"]


def test_a_request_id_is_accepted_once(client: Client, red: str) -> None:
    assert post(client, file=uri(red), request_id="first-1")[0] == 200
    assert refusal(client, file=uri(red), request_id="first-1") == (400, "1231", "您已有请求：first-1")


def test_faults_are_scripted_as_for_chats(client: Client, red: str) -> None:
    client.server.script(ErrorAnswer(500, "1234", "网络错误"), Delay(0.0), Cut(after=0))
    assert post(client, file=uri(red))[0] == 500
    assert post(client, file=uri(red))[0] == 200
    with pytest.raises(Exception, match="peer closed connection"):
        post(client, file=uri(red))


def test_a_server_in_the_form_of_openai_has_no_such_path(red: str) -> None:
    with MockGLMServer(api_style="openai") as server:
        client = Client(server)
        with client.http:
            assert post(client, file=uri(red))[0] == 404
            assert server.requests == []


def test_zhipus_own_sdk_reads_the_answer(server: MockGLMServer, red: str) -> None:
    zai = pytest.importorskip("zai")
    client = zai.ZaiClient(api_key="id.secret", base_url=server.url)
    answer = client.layout_parsing.create(model="glm-ocr", file=uri(red), need_layout_visualization=False)
    element = answer.layout_details[0][0]
    assert (element.label, element.bbox_2d, element.content) == ("text", [0, 0, 30, 20], answer.md_results)
    assert (answer.data_info.num_pages, answer.data_info.pages[0].width) == (1, 30)
    assert answer.usage.total_tokens > 0
