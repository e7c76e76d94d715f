"""``ImageCaptioner``: concurrent requests, errors, cached captions, and the parsing of answers."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from gates import Together
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, CustomLLM, LLMMetadata, MockLLM
from llama_index.core.schema import Document, ImageDocument, ImageNode, MediaResource, TextNode
from programs import start_program
from waiting import PATIENCE, wait_until

from llama_index_mm_zhipu import (
    ChineseClipEmbedding,
    FaissMultiModalVectorStore,
    ZhipuMultiModal,
    build_index,
    load_index,
    read_folder,
)
from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.ingestion import CaptionCacheError, ImageCaptioner
from llama_index_mm_zhipu.ingestion.captioner import parse_answer
from llama_index_mm_zhipu.llm import (
    EmptyAnswerError,
    GLMAuthenticationError,
    GLMBudgetError,
    GLMQuotaError,
    GLMServerError,
)
from llama_index_mm_zhipu.testing import ErrorAnswer, MockGLMServer, Says, Stall

Connect = Callable[..., ZhipuMultiModal]
TAIL = "说明：一条连衣裙\n文字：SALE 50%"


@pytest.fixture
def slides(photos: list[Path]) -> list[ImageNode]:
    """Ten images without captions."""
    return [ImageNode(id_=photo.name, image_path=str(photo)) for photo in photos]


@pytest.fixture
def captioner(llm: ZhipuMultiModal, tmp_path: Path) -> ImageCaptioner:
    """A captioner with its own cache."""
    return ImageCaptioner(llm=llm, cache_path=tmp_path / "captions.sqlite3")


def test_only_images_without_captions_are_captioned(
    captioner: ImageCaptioner, slides: list[ImageNode], server: MockGLMServer
) -> None:
    server.script(Says(TAIL))
    text, captioned = TextNode(text="说明书"), slides[1].model_copy(update={"text": "帽子"})
    nodes = captioner([slides[0], text, captioned])

    assert [node.get_content() for node in nodes] == ["一条连衣裙\nSALE 50%", "说明书", "帽子"]
    assert nodes[1] is text
    assert nodes[2] is captioned
    assert slides[0].text == ""
    (request,) = server.requests
    image, prompt = request["messages"][0]["content"]
    assert image["type"] == "image_url"
    assert "说明：" in prompt["text"]
    assert "文字：" in prompt["text"]


class HalfEmoji(MockLLM):
    """An LLM that answers with half of a surrogate pair, which JSON can represent."""

    _asked: int = PrivateAttr(default=0)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        self._asked += 1
        return ChatResponse(message=ChatMessage(content="说明：红\ud83d苹果😀\n文字：无"))


def test_half_a_surrogate_pair_in_a_caption_is_replaced(
    slides: list[ImageNode], tmp_path: Path, tiny_embedding: ChineseClipEmbedding
) -> None:
    llm = HalfEmoji()
    captioner = ImageCaptioner(llm=llm, cache_path=tmp_path / "captions.sqlite3")
    for _ in range(2):
        (captioned,) = captioner(slides[:1])
        assert captioned.get_content() == "红�苹果😀"
    assert captioner.llm._asked == 1
    assert build_index([captioned], tiny_embedding).image_store.get_nodes()[0].get_content() == "红�苹果😀"


def test_image_documents_are_captioned(captioner: ImageCaptioner, photos: list[Path], server: MockGLMServer) -> None:
    server.script(Says(TAIL))
    document = ImageDocument(image_resource=MediaResource(path=photos[0]))
    (captioned, untouched) = captioner([document, Document(text="文字")])
    assert captioned.get_content() == "一条连衣裙\nSALE 50%"
    assert untouched.get_content() == "文字"


def test_captions_can_be_overwritten_with_another_prompt(
    llm: ZhipuMultiModal, slides: list[ImageNode], server: MockGLMServer, tmp_path: Path
) -> None:
    server.script(Says("a dress"))
    captioner = ImageCaptioner(llm=llm, cache_path=tmp_path / "c.sqlite3", overwrite=True, prompt="What is it?")
    (node,) = captioner([slides[0].model_copy(update={"text": "裙子"})])
    assert node.get_content() == "a dress"
    assert server.requests[0]["messages"][0]["content"][-1]["text"] == "What is it?"


def test_cache_keys_depend_on_content_model_and_prompt(
    connect: Connect, slides: list[ImageNode], server: MockGLMServer, tmp_path: Path
) -> None:
    path = tmp_path / "captions.sqlite3"
    copied = tmp_path / "copy.jpg"
    shutil.copy(str(slides[0].image_path), copied)
    first = ImageCaptioner(llm=connect(), cache_path=path)([slides[0], ImageNode(image_path=str(copied))])
    assert len(server.requests) == 1
    assert first[0].get_content() == first[1].get_content()

    again = ImageCaptioner(llm=connect(), cache_path=path)(slides[:1])
    assert again[0].get_content() == first[0].get_content()
    assert len(server.requests) == 1
    ImageCaptioner(llm=connect(model="glm-4.6v-flash"), cache_path=path)(slides[:1])
    ImageCaptioner(llm=connect(), cache_path=path, language="en")(slides[:1])
    assert len(server.requests) == 3


def test_num_workers_requests_are_concurrent(slides: list[ImageNode], tmp_path: Path) -> None:
    with MockGLMServer() as server:
        server.script(*[Together(threading.Barrier(4))] * 4)
        llm = ZhipuMultiModal(api_key="id.secret", api_base=server.url)
        captioner = ImageCaptioner(llm=llm, cache_path=tmp_path / "captions.sqlite3", num_workers=4)
        assert all(node.get_content() for node in captioner(slides))
        llm.close()
    assert len(server.requests) == len(slides)
    # Each concurrent request has its own connection.
    assert server.connections == 4


def test_failed_images_are_skipped_and_asked_about_in_the_next_run(
    connect: Connect, slides: list[ImageNode], server: MockGLMServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slides[2].image_path = str(tmp_path / "vanished.jpg")
    captioner = ImageCaptioner(
        llm=connect(max_retries=0), cache_path=tmp_path / "captions.sqlite3", num_workers=1, on_error="skip"
    )
    server.script(ErrorAnswer(500, "1234", "网络错误"), Says(""), None)
    nodes = captioner(slides[:4])

    assert [bool(node.get_content()) for node in nodes] == [False, False, False, True]
    assert list(captioner.skipped) == [node.node_id for node in slides[:3]]
    reasons = list(captioner.skipped.values())
    assert reasons[0].startswith("GLMServerError: ")
    assert reasons[1].startswith("EmptyAnswerError: the model answered nothing about ")
    assert "vanished.jpg" in reasons[2]
    assert "skipped 3 of 4 images" in caplog.text

    asked = len(server.requests)
    slides[2].image_path = slides[0].image_path
    assert all(node.get_content() for node in captioner(slides[:4]))
    assert captioner.skipped == {}
    assert len(server.requests) == asked + 2


def test_a_run_continues_after_an_error(
    connect: Connect, slides: list[ImageNode], server: MockGLMServer, tmp_path: Path
) -> None:
    captioner = ImageCaptioner(
        llm=connect(max_retries=0), cache_path=tmp_path / "captions.sqlite3", num_workers=1, on_error="raise"
    )
    server.script(None, None, None, ErrorAnswer(500, "1234", "网络错误"))
    with pytest.raises(GLMServerError):
        captioner(slides)
    assert len(server.requests) == 4
    assert all(node.get_content() for node in captioner(slides))
    assert len(server.requests) == 4 + len(slides) - 3


async def test_a_run_continues_after_cancellation(slides: list[ImageNode], tmp_path: Path) -> None:
    with MockGLMServer() as server:
        server.script(None, None, None, Stall())
        llm = ZhipuMultiModal(api_key="id.secret", api_base=server.url)
        captioner = ImageCaptioner(llm=llm, cache_path=tmp_path / "captions.sqlite3", num_workers=1)
        running = asyncio.create_task(captioner.acall(slides))
        while len(server.requests) < 4:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert all(node.get_content() for node in await captioner.acall(slides))
        assert len(server.requests) == 4 + len(slides) - 3
        await llm.aclose()


@pytest.mark.parametrize(
    ("code", "error"), [("1000", GLMAuthenticationError), ("1113", GLMQuotaError)], ids=["key", "balance"]
)
def test_errors_that_concern_all_images_are_raised_at_once(
    captioner: ImageCaptioner, slides: list[ImageNode], server: MockGLMServer, code: str, error: type[Exception]
) -> None:
    server.fail_next(401, code, "身份验证失败。", times=20)
    with pytest.raises(error):
        captioner(slides)


def test_a_budget_that_is_used_up_ends_the_run_and_a_larger_one_continues_it(
    connect: Connect, slides: list[ImageNode], server: MockGLMServer, tmp_path: Path
) -> None:
    path = tmp_path / "captions.sqlite3"
    llm = connect(max_total_tokens=1)
    with pytest.raises(GLMBudgetError, match="raise max_cost or max_total_tokens"):
        ImageCaptioner(llm=llm, cache_path=path, num_workers=1, on_error="skip")(slides)
    assert len(server.requests) == 1
    done = ImageCaptioner(llm=connect(), cache_path=path, num_workers=1)(slides)
    assert all(node.get_content() for node in done)
    assert len(server.requests) == len(slides)


def test_an_unusable_cache_is_an_error_before_any_request(
    llm: ZhipuMultiModal, slides: list[ImageNode], server: MockGLMServer, tmp_path: Path
) -> None:
    (tmp_path / "captions.sqlite3").write_bytes(b"no database at all, but text that is long enough")
    with pytest.raises(CaptionCacheError, match="give another path"):
        ImageCaptioner(llm=llm, cache_path=tmp_path / "captions.sqlite3")(slides)
    assert server.requests == []


def test_a_truncated_answer_is_an_error_and_not_cached(
    connect: Connect, slides: list[ImageNode], server: MockGLMServer, tmp_path: Path
) -> None:
    path = tmp_path / "captions.sqlite3"
    cut = ImageCaptioner(llm=connect(max_tokens=5), cache_path=path)
    assert not cut(slides[:1])[0].get_content()
    assert "was cut; raise max_tokens" in next(iter(cut.skipped.values()))
    assert ImageCaptioner(llm=connect(), cache_path=path)(slides[:1])[0].get_content()


def test_llms_without_a_name_do_not_share_captions(slides: list[ImageNode], tmp_path: Path) -> None:
    path = tmp_path / "captions.sqlite3"
    captions = [
        ImageCaptioner(llm=MockLLM(max_tokens=count), cache_path=path)(slides[:1])[0].get_content() for count in (3, 5)
    ]
    assert captions[0] != captions[1]


def test_an_empty_answer_raises_its_own_error(
    llm: ZhipuMultiModal, slides: list[ImageNode], server: MockGLMServer, tmp_path: Path
) -> None:
    server.script(Says(""))
    with pytest.raises(EmptyAnswerError):
        ImageCaptioner(llm=llm, cache_path=tmp_path / "captions.sqlite3", on_error="raise")(slides[:1])


def test_an_llm_may_ask_another_llm(
    llm: ZhipuMultiModal, slides: list[ImageNode], server: MockGLMServer, tmp_path: Path
) -> None:
    class Wrapper(CustomLLM):
        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata(model_name="wrapper")

        def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
            return CompletionResponse(text=f"说明：{llm.complete('你好').text}")

        def stream_complete(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

    captioner = ImageCaptioner(llm=Wrapper(), cache_path=tmp_path / "captions.sqlite3")
    assert all("你好" in node.get_content() for node in captioner(slides[:2]))


async def test_it_can_be_called_in_a_running_event_loop(captioner: ImageCaptioner, slides: list[ImageNode]) -> None:
    assert all(node.get_content() for node in captioner(slides[:3]))


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
@pytest.mark.parametrize(
    "in_a_loop", [False, pytest.param(True, marks=pytest.mark.integration)], ids=["script", "notebook"]
)
def test_ctrl_c_stops_the_run_and_keeps_captions(slides: list[ImageNode], tmp_path: Path, in_a_loop: bool) -> None:
    with MockGLMServer() as server:
        server.script(None, None, Stall())
        program = textwrap.dedent(f"""
            import asyncio, pathlib, sys, time
            from llama_index.core.schema import ImageNode
            from llama_index_mm_zhipu import ImageCaptioner, ZhipuMultiModal

            llm = ZhipuMultiModal(api_key="id.secret", api_base="{server.url}")
            captioner = ImageCaptioner(llm=llm, cache_path="{tmp_path}/captions.sqlite3", num_workers=1)
            nodes = [ImageNode(image_path=path) for path in sys.argv[1:]]

            async def notebook():
                captioner(nodes)

            try:
                # The event loop of a notebook does not handle SIGINT as asyncio.run does.
                asyncio.new_event_loop().run_until_complete(notebook()) if {in_a_loop} else captioner(nodes)
            except KeyboardInterrupt:
                time.sleep(0.5)  # a worker that was not stopped would send a request
                print("interrupted")
        """)
        paths = [str(node.image_path) for node in slides]
        with start_program(program, *paths, stdout=subprocess.PIPE) as running:
            assert wait_until(lambda: len(server.requests) == 3)
            running.send_signal(signal.SIGINT)
            output, _ = running.communicate(timeout=PATIENCE)
        assert output == "interrupted\n"
        assert len(server.requests) == 3
        llm = ZhipuMultiModal(api_key="id.secret", api_base=server.url)
        assert all(
            node.get_content() for node in ImageCaptioner(llm=llm, cache_path=tmp_path / "captions.sqlite3")(slides)
        )
        assert len(server.requests) == 3 + len(slides) - 2
        llm.close()


def test_unreadable_images_are_errors_with_on_error_raise(llm: ZhipuMultiModal, tmp_path: Path) -> None:
    captioner = ImageCaptioner(llm=llm, cache_path=tmp_path / "captions.sqlite3", on_error="raise")
    with pytest.raises(ImageError, match=r"vanished\.jpg"):
        captioner([ImageNode(image_path=str(tmp_path / "vanished.jpg"))])


def test_a_skipped_node_is_reported_by_its_id_and_logged_on_one_line(
    captioner: ImageCaptioner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    captioner([ImageNode(id_="a\nb", image_path=str(tmp_path / "vanished.jpg"))])
    assert list(captioner.skipped) == ["a\nb"]
    (message,) = caplog.messages
    assert message.startswith("skipped 1 of 1 images: a\\nb: ImageError: ")
    assert "\n" not in message


def test_urls_of_images_are_sent_unchanged(captioner: ImageCaptioner, server: MockGLMServer) -> None:
    (node,) = captioner([ImageNode(image_url="http://127.0.0.1:9/cat.jpg")])
    assert server.requests[0]["messages"][0]["content"][0]["image_url"]["url"] == "http://127.0.0.1:9/cat.jpg"
    assert node.get_content()


def test_a_progress_bar_is_shown_on_request(
    captioner: ImageCaptioner, slides: list[ImageNode], capsys: pytest.CaptureFixture[str]
) -> None:
    captioner(slides[:2])
    assert "Captioning" not in capsys.readouterr().err
    captioner(slides[:2], show_progress=True)
    assert "Captioning images: 100%" in capsys.readouterr().err


def test_settings_are_serialized_without_the_api_key(captioner: ImageCaptioner, key: str) -> None:
    shown = str(captioner.to_dict()) + repr(captioner)
    assert "glm-4v-flash" in shown
    with pytest.raises(ValueError, match="pass it again, as in from_dict"):
        ImageCaptioner.from_dict(captioner.to_dict())
    again = ImageCaptioner.from_dict(captioner.to_dict(), llm=captioner.llm)
    assert again.cache_path == captioner.cache_path
    assert not any(part in shown for part in key.split("."))


# In pipelines and indexes


async def test_captions_reach_vector_full_text_and_prompt(
    captioner: ImageCaptioner,
    slides: list[ImageNode],
    demo_embedding: ChineseClipEmbedding,
    llm: ZhipuMultiModal,
    server: MockGLMServer,
    tmp_path: Path,
) -> None:
    server.script(*[Says(f"说明：第{number}张\n文字：型号KX{number}00") for number in range(len(slides))])
    store = FaissMultiModalVectorStore(tmp_path / "store", namespace="image")
    pipeline = IngestionPipeline(transformations=[captioner, demo_embedding], vector_store=store)
    captioner.num_workers = 1
    await pipeline.arun(nodes=slides)

    index = load_index(tmp_path / "store", embed_model=demo_embedding)
    (best,) = index.as_retriever(vector_store_query_mode="text_search", image_similarity_top_k=1).retrieve("KX300")
    assert best.node.node_id == slides[3].node_id
    image, caption = demo_embedding.get_image_embedding(slides[3].image_path), "第3张\n型号KX300"
    expected = [(a + b) / 2 for a, b in zip(image, demo_embedding.get_text_embedding(caption), strict=True)]
    assert best.node.get_content() == caption
    (stored,) = [node for node in pipeline.run(nodes=slides[3:4]) if node.node_id == slides[3].node_id]
    assert stored.embedding == pytest.approx(expected, abs=1e-5)
    index.as_query_engine(llm=llm, vector_store_query_mode="text_search", image_similarity_top_k=1).query("KX300")
    texts = [part.get("text", "") for part in server.requests[-1]["messages"][1]["content"]]
    assert any("第3张 型号KX300" in text for text in texts)
    await llm.aclose()


def test_captioned_slides_are_indexed_with_caption_weight(
    captioner: ImageCaptioner, photos: list[Path], demo_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    for photo in photos:
        shutil.copy(photo, folder)
    index = build_index(captioner(read_folder(folder)), embed_model=demo_embedding)
    assert index.image_store.get_setting("caption_weight") == 0.5
    assert index.image_store.has_texts()


# Parsing of answers


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("说明：一只猫\n文字：无", "一只猫"),
        ("说明：一只猫。\n文字：停车\n禁止", "一只猫。\n停车\n禁止"),
        ("**说明**：一只猫\n\n**文字**: SALE", "一只猫\nSALE"),
        ("**说明：** 一只猫\n**文字：** SALE", "一只猫\nSALE"),
        ("说明:一只猫\n坐着\n文字:没有文字。", "一只猫\n坐着"),
        ("1. 说明：一只猫\n2. 文字：SALE", "一只猫\nSALE"),
        ("- 说明：一只猫\n- 文字：SALE", "一只猫\nSALE"),
        ("说明：一只猫。文字：无", "一只猫。"),
        ("文字：SALE\n说明：一只猫", "一只猫\nSALE"),
        ("说明：一只猫", "一只猫"),
        ("文字：无", ""),
        ("```\n说明：一只猫\n文字：SALE\n```", "一只猫\nSALE"),
        ("<think>\n说明：草稿\n</think>\n说明：一只猫\n文字：SALE", "一只猫\nSALE"),
        ("Caption: A cat\nText: none", "A cat"),
        ("Caption: A cat\nText: STOP", "A cat\nSTOP"),
        ("Description: A cat\nText: No legible text.", "A cat"),
        ("  一只猫坐着  ", "一只猫坐着"),
        ("产品说明：见附件", "产品说明：见附件"),
        ("说明：封面\n文字：产品名\n说明：请勿折叠", "封面\n产品名\n说明：请勿折叠"),
        ("说明：\n文字：停车", "停车"),
        ("一个红苹果。\n文字：ABC", "一个红苹果。\nABC"),
        ("A blue sign.\nText: STOP", "A blue sign.\nSTOP"),
        ("这张图片的说明：苹果\n文字：无", "苹果"),
        ('"说明：苹果\n文字：无"', "苹果"),
        ("【说明】苹果。\n【文字】无", "苹果。"),
        ("**图片内容说明**：苹果\n**文字**：无", "苹果"),
        ("**说明（图片内容）**：苹果\n文字：无", "苹果"),
        ("图片描述：苹果\n图片文字：ABC", "苹果\nABC"),
        ("（1）说明：苹果\n（2）文字：ABC", "苹果\nABC"),
        ("一、说明：苹果\n二、文字：ABC", "苹果\nABC"),
        ("", ""),
    ],
)
def test_description_and_text_are_parsed(answer: str, caption: str) -> None:
    assert parse_answer(answer) == caption


@pytest.mark.parametrize(
    "text",
    [
        "无文字",
        "图中没有文字。",
        "没有可见的文字",
        "n/a",
        "“无”",
        "No text in the image",
        "（无）",
        "无法辨认",
        "没有可识别的文字信息",
        "图片中没有清晰可见的文字",
        "No text is visible.",
        "No text in the picture.",
    ],
)
def test_phrases_for_no_text_are_recognized(text: str) -> None:
    assert parse_answer(f"说明：一只猫\n文字：{text}") == "一只猫"


@pytest.mark.parametrize("filler", ["\n", " \n", "*", "- ", "说明：", "<think>"])
def test_endlessly_repeated_text_is_parsed_fast(filler: str) -> None:
    start = time.process_time()
    parse_answer("说明：猫" + filler * 5000 + "。")
    parse_answer(filler * 5000)
    assert time.process_time() - start < 1
