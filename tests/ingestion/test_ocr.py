"""``ImageOcr``: page texts of images, noise, cached results, errors, worker processes, interruptions."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import BaseNode, Document, ImageDocument, ImageNode, MediaResource, MetadataMode, TextNode
from PIL import Image
from pixel_engine import PixelEngine, image_of, node_of
from programs import start_program
from waiting import PATIENCE, wait_until

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index, load_index
from llama_index_mm_zhipu.images import ImageError, caption_of, encode_image, load_image, page_text_of, with_page_text
from llama_index_mm_zhipu.images.nodes import PAGE_TEXT_LINES
from llama_index_mm_zhipu.ingestion import (
    ImageOcr,
    OcrCacheError,
    OcrEngineError,
    OcrLine,
    OcrWorkerError,
    RapidOcrEngine,
)
from llama_index_mm_zhipu.readers import PageReader

CASES = Path(__file__).parents[2] / "examples" / "cases"
MakeOcr = Callable[..., ImageOcr]

# Each process imports llama-index-core, which takes seconds.
TWO_PROCESSES = pytest.param(2, marks=pytest.mark.integration)


@pytest.fixture
def engine(tmp_path: Path) -> PixelEngine:
    return PixelEngine(tmp_path / "calls.jsonl")


@pytest.fixture
def make_ocr(engine: PixelEngine, tmp_path: Path) -> MakeOcr:
    """A function that makes an ``ImageOcr`` with the pixel engine and one cache."""

    def make(**settings: Any) -> ImageOcr:
        return ImageOcr(**{"engine": engine, "cache_path": tmp_path / "ocr.sqlite3", **settings})

    return make


def texts_of(nodes: list[BaseNode]) -> list[str]:
    return list(map(page_text_of, nodes))


def reads(*lines: OcrLine) -> Callable[[Image.Image], list[OcrLine]]:
    """Return an engine that finds the same lines in every image."""
    return lambda image: list(lines)


BOX = (0.1, 0.1, 0.9, 0.2)


# Page texts


def test_the_text_becomes_the_page_text_and_its_lines_are_hidden_metadata(make_ocr: MakeOcr) -> None:
    node = node_of("胎压检查\n每月一次")
    (read,) = make_ocr()([node])
    assert page_text_of(read) == "胎压检查\n每月一次"
    assert caption_of(read) == ""
    assert read.metadata[PAGE_TEXT_LINES] == [
        {"text": "胎压检查", "box": [0.1, 0.1, 0.22, 0.15], "score": 0.9},
        {"text": "每月一次", "box": [0.1, 0.3, 0.22, 0.35], "score": 0.9},
    ]
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        assert "0.9" not in read.get_content(mode)
    assert page_text_of(node) == ""
    assert json.dumps(read.metadata)


def test_only_images_without_page_text_are_read(make_ocr: MakeOcr, engine: PixelEngine) -> None:
    text, layer = TextNode(text="说明书"), with_page_text(node_of("像素"), "文字层", "text_layer")
    captioned = node_of("扉页").model_copy(update={"text": "一本书"})
    nodes = make_ocr()([text, layer, captioned])
    assert nodes[0] is text
    assert nodes[1] is layer
    assert (caption_of(nodes[2]), page_text_of(nodes[2])) == ("一本书", "扉页")
    assert engine.calls == ["扉页"]
    assert texts_of(make_ocr(overwrite=True)([layer])) == ["像素"]


def test_image_documents_are_read(make_ocr: MakeOcr) -> None:
    document = ImageDocument(image_resource=MediaResource(data=b64encode(encode_image(image_of("手册"), "PNG"))))
    read, untouched = make_ocr()([document, Document(text="文字")])
    assert page_text_of(read) == "手册"
    assert untouched.get_content() == "文字"


def test_images_without_text_stay_as_they_are_and_are_read_once(make_ocr: MakeOcr, engine: PixelEngine) -> None:
    node = node_of("")
    assert make_ocr()([node])[0] is node
    assert make_ocr()([node])[0] is node
    assert engine.calls == [""]


def test_noise_is_dropped(tmp_path: Path) -> None:
    lines = [
        OcrLine("胎压", BOX, 0.85),
        OcrLine("模糊", BOX, 0.84),
        OcrLine(" 一 ", BOX, 0.99),
        OcrLine("整图", (0.0, 0.05, 1.0, 0.95), 0.99),
        OcrLine("", BOX, 0.99),
    ]
    (read,) = ImageOcr(engine=reads(*lines), cache_path=tmp_path / "1.sqlite3")([node_of("noise")])
    assert page_text_of(read) == "胎压"
    assert [line["text"] for line in read.metadata[PAGE_TEXT_LINES]] == ["胎压"]
    (blank,) = ImageOcr(engine=reads(*lines[1:]), cache_path=tmp_path / "2.sqlite3")([node_of("noise")])
    assert page_text_of(blank) == ""


def test_single_characters_between_many_lines_are_kept(tmp_path: Path) -> None:
    lines = [OcrLine(text, (0.1, 0.1 * number, 0.5, 0.1 * number + 0.05)) for number, text in enumerate("甲乙丙丁戊")]
    longer = [OcrLine(line.text * 5 + "。", line.box) for line in lines]
    single = OcrLine("7", (0.5, 0.9, 0.55, 0.95))
    for found, last in (([*longer, single], "7"), ([*longer[:4], single], "丁丁丁丁丁。")):
        ocr = ImageOcr(engine=reads(*found), cache_path=tmp_path / f"{last}.sqlite3")
        assert page_text_of(ocr([node_of("page")])[0]).split("\n")[-1] == last


def test_the_lowest_score_can_be_changed_without_reading_again(make_ocr: MakeOcr, engine: PixelEngine) -> None:
    assert texts_of(make_ocr(min_score=0.95)([node_of("胎压")])) == [""]
    assert texts_of(make_ocr(min_score=0.9)([node_of("胎压")])) == ["胎压"]
    assert engine.calls == ["胎压"]


def test_large_images_are_shrunk_and_small_ones_stay(tmp_path: Path) -> None:
    sizes = []

    def engine(image: Image.Image) -> list[OcrLine]:
        sizes.append(image.size)
        return []

    for number, size in enumerate([(3840, 2880), (300, 200)]):
        Image.new("RGB", size, "white").save(tmp_path / f"{number}.png")
    nodes = [ImageNode(image_path=str(tmp_path / f"{number}.png")) for number in range(2)]
    ImageOcr(engine=engine, cache_path=tmp_path / "ocr.sqlite3")(nodes)
    assert sizes == [(1600, 1200), (300, 200)]


def test_an_engine_that_knows_the_layout_keeps_its_order_and_blocks(tmp_path: Path) -> None:
    class Layout:
        in_reading_order = True

        def __call__(self, image: Image.Image) -> list[OcrLine]:
            return [OcrLine("# 标题", (0, 0.5, 1, 1)), OcrLine("| 一 | 二 |\n|---|---|", (0, 0, 1, 0.9))]

    (read,) = ImageOcr(engine=Layout(), cache_path=tmp_path / "ocr.sqlite3")([node_of("layout")])
    assert page_text_of(read) == "# 标题\n| 一 | 二 |\n|---|---|"


def test_lone_surrogates_and_boxes_beyond_the_image_are_corrected(tmp_path: Path) -> None:
    engine = reads(OcrLine("红\ud83d苹果", (-0.1, 0.1, 1.2, 0.2)))
    (read,) = ImageOcr(engine=engine, cache_path=tmp_path / "ocr.sqlite3")([node_of("surrogate")])
    assert read.metadata[PAGE_TEXT_LINES] == [{"text": "红�苹果", "box": [0.0, 0.1, 1.0, 0.2], "score": 1.0}]


# The cache


def test_results_are_cached_by_content_engine_and_size(make_ocr: MakeOcr, engine: PixelEngine, tmp_path: Path) -> None:
    same = node_of("胎压").model_copy(update={"id_": "copy"})
    assert texts_of(make_ocr()([node_of("胎压"), same])) == ["胎压"] * 2
    assert engine.calls == ["胎压"]
    make_ocr(longest_side=800)([same])
    assert len(engine.calls) == 2
    make_ocr(engine=PixelEngine(engine.log, "pixels 2"))([same])
    assert len(engine.calls) == 3
    assert texts_of(make_ocr()([same])) == ["胎压"]
    assert len(engine.calls) == 3


def test_plain_functions_are_told_apart_by_their_names(tmp_path: Path) -> None:
    def first(image: Image.Image) -> list[OcrLine]:
        return [OcrLine("第一", BOX)]

    def second(image: Image.Image) -> list[OcrLine]:
        return [OcrLine("第二", BOX)]

    for engine, text in ((first, "第一"), (second, "第二")):
        assert texts_of(ImageOcr(engine=engine, cache_path=tmp_path / "ocr.sqlite3")([node_of("x")])) == [text]


def test_an_unusable_cache_is_an_error_before_any_image_is_read(
    make_ocr: MakeOcr, engine: PixelEngine, tmp_path: Path
) -> None:
    (tmp_path / "ocr.sqlite3").write_bytes(b"no database at all, but text that is long enough")
    with pytest.raises(OcrCacheError, match=r"the cache of ocr at .* give another path"):
        make_ocr(on_error="skip")([node_of("胎压")])
    assert engine.calls == []


def test_a_damaged_entry_of_the_cache_is_read_again(make_ocr: MakeOcr, engine: PixelEngine, tmp_path: Path) -> None:
    for damaged in ("{", "[]", '{"width": 1}', '{"width": 1, "height": 1, "lines": [{"text": "x"}]}'):
        make_ocr()([node_of("胎压")])
        with closing(sqlite3.connect(tmp_path / "ocr.sqlite3")) as connection, connection:
            assert connection.execute("update ocr set lines = ?", (damaged,)).rowcount == 1
        assert texts_of(make_ocr()([node_of("胎压")])) == ["胎压"]
    assert len(engine.calls) == 5


# Errors


def test_failed_images_are_skipped_and_read_in_the_next_run(
    make_ocr: MakeOcr, engine: PixelEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "text.png").write_text("no image")
    nodes = [
        node_of("胎压"),
        node_of("!raise"),
        ImageNode(id_="gone", image_path=str(tmp_path / "gone.png")),
        ImageNode(id_="text", image_path=str(tmp_path / "text.png")),
        ImageNode(id_="url", image_url="http://127.0.0.1:9/cat.jpg"),
    ]
    ocr = make_ocr()
    read = ocr(nodes)
    assert texts_of(read) == ["胎压", "", "", "", ""]
    assert all(after is before for after, before in zip(read[1:], nodes[1:], strict=True))
    assert list(ocr.skipped) == ["!raise", "gone", "text", "url"]
    assert ocr.skipped["!raise"] == "LookupError: it cannot be read"
    assert ocr.skipped["gone"].startswith("ImageError: ")
    assert "skipped 4 of 5 images: !raise: LookupError: it cannot be read; gone: " in caplog.text
    image_of("备胎").save(tmp_path / "gone.png")
    assert texts_of(ocr(nodes[:3])) == ["胎压", "", "备胎"]
    assert list(ocr.skipped) == ["!raise"]
    assert engine.calls == ["!raise", "!raise", "备胎", "胎压"]


@pytest.mark.parametrize("num_workers", [1, TWO_PROCESSES])
def test_errors_are_raised_with_on_error_raise(make_ocr: MakeOcr, num_workers: int) -> None:
    ocr = make_ocr(on_error="raise", num_workers=num_workers)
    with pytest.raises(LookupError, match="it cannot be read"):
        ocr([node_of("!raise"), node_of("胎压")])
    with pytest.raises(ImageError, match=r"nothing\.png"):
        ocr([ImageNode(image_path="nothing.png"), node_of("胎压")])


def test_an_engine_that_returns_something_else_is_an_error(tmp_path: Path) -> None:
    ocr = ImageOcr(engine=lambda image: ["text"], cache_path=tmp_path / "ocr.sqlite3", on_error="raise")  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"OCR engine .*test_ocr.* returned 'text'; it must return OcrLine objects"):
        ocr([node_of("x")])


@pytest.mark.parametrize("missing", ["rapidocr", "openvino"])
def test_without_the_extra_the_error_names_it(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf'{missing}: pip install "llama-index-mm-zhipu\[ocr\]"'):
        ImageOcr()


def test_images_at_urls_are_fetched_on_request(make_ocr: MakeOcr, file_server: str, photos: list[Path]) -> None:
    node = ImageNode(image_url=f"{file_server}/{photos[0].name}")
    assert "ImageError" in next(iter((ocr := make_ocr())([node]) and ocr.skipped.values()))
    seen = make_ocr(engine=reads(OcrLine("网上", BOX)), allow_urls=True, allow_private_urls=True)([node])
    assert texts_of(seen) == ["网上"]


def test_a_progress_bar_is_shown_on_request(make_ocr: MakeOcr, capsys: pytest.CaptureFixture[str]) -> None:
    make_ocr()([node_of("胎压")])
    assert "Reading text" not in capsys.readouterr().err
    make_ocr()([node_of("胎压")], show_progress=True)
    assert "Reading text: 100%" in capsys.readouterr().err


# Threads and processes


def test_processes_read_images_in_order_whatever_they_print(make_ocr: MakeOcr, engine: PixelEngine) -> None:
    texts = [f"第{number}页\n!print" for number in range(6)]
    read = make_ocr(num_workers=2, on_error="raise")([*map(node_of, texts), TextNode(text="末页")])
    assert texts_of(read[:6]) == texts
    assert engine.calls == texts
    assert os.getpid() not in engine.processes
    assert wait_until(lambda: not any(map(is_running, engine.processes)))


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


@pytest.mark.integration
def test_an_image_that_ends_the_process_is_skipped_and_the_others_are_read(make_ocr: MakeOcr) -> None:
    ocr = make_ocr(num_workers=2)
    texts = ["甲页", "!exit", "乙页", "丙页", "丁页"]
    assert texts_of(ocr(list(map(node_of, texts)))) == ["甲页", "", "乙页", "丙页", "丁页"]
    assert list(ocr.skipped) == ["!exit"]
    assert ocr.skipped["!exit"].startswith("OcrWorkerError: an OCR process ended with status 3 while it read an image")
    with pytest.raises(OcrWorkerError, match="take fewer num_workers"):
        make_ocr(num_workers=2, on_error="raise")([node_of("!exit"), node_of("甲页")])


def test_an_engine_that_no_other_process_can_load_is_an_error(tmp_path: Path) -> None:
    ocr = ImageOcr(engine=lambda image: [], cache_path=tmp_path / "ocr.sqlite3", num_workers=2)
    with pytest.raises(OcrEngineError, match="define it in a module that can be imported, or take num_workers=1"):
        ocr([node_of("a"), node_of("b")])


@pytest.mark.integration
def test_an_engine_of_a_script_is_an_error_with_advice(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        from pixel_engine import node_of
        from llama_index_mm_zhipu.ingestion import ImageOcr

        def engine(image):
            return []

        try:
            ImageOcr(engine=engine, num_workers=2, cache_path="{tmp_path}/ocr.sqlite3")([node_of("a"), node_of("b")])
        except TypeError as error:
            print(error)
    """)
    with start_program(program, stdout=subprocess.PIPE, env=with_this_path()) as running:
        output, _ = running.communicate(timeout=PATIENCE)
    assert "cannot be used in worker processes" in output
    assert "define it in a module that can be imported, or take num_workers=1" in output


def with_this_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_threads_serve_an_engine_that_is_thread_safe(tmp_path: Path) -> None:
    barrier = threading.Barrier(3)

    class Service:
        thread_safe = True

        def __call__(self, image: Image.Image) -> list[OcrLine]:
            barrier.wait(PATIENCE)
            return [OcrLine("同时", BOX)]

    ocr = ImageOcr(engine=Service(), cache_path=tmp_path / "ocr.sqlite3", num_workers=3, on_error="raise")
    assert texts_of(ocr([node_of(str(number)) for number in range(6)])) == ["同时"] * 6


def test_other_engines_are_called_by_one_thread_at_a_time(tmp_path: Path) -> None:
    running = overlapping = 0

    def engine(image: Image.Image) -> list[OcrLine]:
        nonlocal running, overlapping
        running += 1
        overlapping += running > 1
        threading.Event().wait(0.001)
        running -= 1
        return []

    def read(name: str) -> None:
        ocr = ImageOcr(engine=engine, cache_path=tmp_path / f"{name}.sqlite3", on_error="raise")
        ocr([node_of(f"{name}{number}") for number in range(10)])

    threads = [threading.Thread(target=read, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlapping == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
@pytest.mark.parametrize("num_workers", [1, TWO_PROCESSES])
def test_ctrl_c_stops_the_run_and_its_processes_and_keeps_results(
    make_ocr: MakeOcr, engine: PixelEngine, tmp_path: Path, num_workers: int
) -> None:
    # With two processes, one reads the other pages while the other one waits.
    texts = ["甲页", "乙页", "!wait", *(["!wait\n2"] if num_workers == 2 else []), "末页"]
    program = textwrap.dedent(f"""
        from pathlib import Path
        from pixel_engine import PixelEngine, node_of
        from llama_index_mm_zhipu.ingestion import ImageOcr

        ocr = ImageOcr(
            engine=PixelEngine(Path("{engine.log}")),
            num_workers={num_workers},
            cache_path="{tmp_path}/ocr.sqlite3",
        )
        try:
            ocr([node_of(text) for text in {texts}])
        except KeyboardInterrupt:
            print("interrupted")
    """)
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "env": with_this_path(), "start_new_session": True}
    with start_program(program, **options) as running:
        assert wait_until(lambda: len(engine.calls) == len(texts) - 1)
        # Ctrl-C in a terminal reaches all processes.
        os.killpg(running.pid, signal.SIGINT)
        output, _ = running.communicate(timeout=PATIENCE)
    assert output == "interrupted\n"
    assert wait_until(lambda: not any(map(is_running, engine.processes)))
    before = len(engine.calls)
    assert texts_of(make_ocr()([node_of("甲页"), node_of("乙页"), node_of("末页")])) == ["甲页", "乙页", "末页"]
    assert len(engine.calls) == before + 1


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_processes_end_with_the_process_that_started_them(engine: PixelEngine, tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import threading
        from pathlib import Path
        from pixel_engine import PixelEngine, node_of
        from llama_index_mm_zhipu.ingestion.ocr_workers import WorkerProcess
        from llama_index_mm_zhipu.images import read_bytes

        workers = [WorkerProcess(PixelEngine(Path("{engine.log}")), 1600) for _ in range(2)]
        for number, worker in enumerate(workers):
            worker.recognize(read_bytes(node_of(str(number))))
        threading.Event().wait()
    """)
    with start_program(program, env=with_this_path()) as running:
        assert wait_until(lambda: len(engine.calls) == 2)
        running.kill()
    assert wait_until(lambda: not any(map(is_running, engine.processes)))


async def test_a_cancelled_run_stops_after_the_present_image(make_ocr: MakeOcr, engine: PixelEngine) -> None:
    released = threading.Event()

    def slow(image: Image.Image) -> list[OcrLine]:
        lines = engine(image)
        released.wait(PATIENCE)
        return lines

    running = asyncio.create_task(make_ocr(engine=slow).acall(list(map(node_of, ("甲页", "乙页")))))
    while not engine.calls:
        await asyncio.sleep(0.01)
    running.cancel()
    asyncio.get_running_loop().call_later(0.05, released.set)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert engine.calls == ["甲页"]
    assert texts_of(await make_ocr().acall([node_of("甲页"), node_of("乙页")])) == ["甲页", "乙页"]


# In pipelines and indexes


def test_settings_are_serialized_without_engine_and_images(make_ocr: MakeOcr, engine: PixelEngine) -> None:
    ocr = make_ocr(min_score=0.5)
    ocr([node_of("秘密")])
    shown = str(ocr.to_dict())
    assert "pixels 1" in shown
    assert "秘密" not in shown + repr(ocr)
    with pytest.raises(ValueError, match="pass it again, as in from_dict"):
        ImageOcr.from_dict(ocr.to_dict())
    again = ImageOcr.from_dict(ocr.to_dict(), engine=engine)
    assert (again.min_score, again.cache_path) == (0.5, ocr.cache_path)
    assert pickle.loads(pickle.dumps(ocr)).min_score == 0.5


def test_the_default_engine_is_restored_from_settings(needs_ocr: None) -> None:
    assert isinstance(ImageOcr.from_dict(ImageOcr().to_dict()).engine, RapidOcrEngine)
    with pytest.raises(ValueError, match="pass it again"):
        ImageOcr.from_dict(ImageOcr(engine=RapidOcrEngine(threads=1)).to_dict())


@pytest.mark.integration
@pytest.mark.parametrize("workers", [{"num_workers": None}, {"num_workers": 2}], ids=["one-process", "processes"])
def test_it_works_in_a_pipeline_with_processes_of_both(make_ocr: MakeOcr, workers: dict[str, Any]) -> None:
    nodes = [node_of(f"第{number}页") for number in range(4)]
    pipeline = IngestionPipeline(transformations=[make_ocr(num_workers=2, on_error="raise")], disable_cache=True)
    assert sorted(texts_of(list(pipeline.run(nodes=nodes, **workers)))) == [node.node_id for node in nodes]


async def test_it_works_in_an_asynchronous_pipeline(make_ocr: MakeOcr) -> None:
    nodes = [node_of(f"第{number}页") for number in range(4)]
    pipeline = IngestionPipeline(transformations=[make_ocr(on_error="raise")], disable_cache=True)
    assert texts_of(list(await pipeline.arun(nodes=nodes))) == [node.node_id for node in nodes]


def found(index: Any, words: str) -> list[str]:
    retriever = index.as_retriever(vector_store_query_mode="text_search", image_similarity_top_k=3)
    return [each.node.node_id for each in retriever.retrieve(words)]


def test_an_index_reads_images_before_it_embeds_them_and_later_ones_too(
    make_ocr: MakeOcr,
    tiny_embedding: ChineseClipEmbedding,
    photos: list[Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    nodes = [node_of("胎压检查"), node_of("!raise"), ImageNode(id_="photo", image_path=str(photos[0]))]
    ocr = make_ocr()
    index = build_index(nodes, tiny_embedding, persist_dir=tmp_path / "index", ocr=ocr)
    assert found(index, "胎压检查") == ["胎压检查"]
    stored = {node.node_id: node for node in index.image_store.get_nodes()}
    assert sorted(stored) == ["!raise", "photo", "胎压检查"]
    assert page_text_of(stored["胎压检查"]) == "胎压检查"
    assert page_text_of(stored["photo"]) == page_text_of(stored["!raise"]) == ""
    assert "skipped 1 of 3 images: !raise: LookupError" in caplog.text
    assert index.skipped == {}
    index.insert_nodes([node_of("更换机油")])
    index.insert(node_of("冷却系统"))
    index.close()

    again = load_index(tmp_path / "index", tiny_embedding, ocr=ocr)
    again.insert(node_of("空调滤芯"))
    assert [found(again, words)[0] for words in ("更换机油", "冷却系统", "空调滤芯")] == [
        "更换机油",
        "冷却系统",
        "空调滤芯",
    ]
    again.close()


def test_a_built_index_gets_page_texts_later_without_embedding_again(
    make_ocr: MakeOcr, tiny_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    (tmp_path / "slides").mkdir()
    image_of("胎压检查").save(tmp_path / "slides" / "1.png")
    build_index(tmp_path / "slides", tiny_embedding, persist_dir=tmp_path / "index").close()
    index = build_index(tmp_path / "slides", tiny_embedding, persist_dir=tmp_path / "index", ocr=make_ocr())
    assert index.kept == 1
    assert len(found(index, "胎压检查")) == 1
    index.close()


def test_streams_are_read_batch_after_batch(make_ocr: MakeOcr, tiny_embedding: ChineseClipEmbedding) -> None:
    nodes = (node_of(f"第{number}页码") for number in range(5))
    index = build_index(nodes, tiny_embedding, ocr=make_ocr(), insert_batch_size=2)
    assert {page_text_of(node) for node in index.image_store.get_nodes()} == {f"第{number}页码" for number in range(5)}


def test_an_image_that_cannot_be_opened_is_an_error_of_the_index(
    make_ocr: MakeOcr, tiny_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    gone = ImageNode(id_="gone", image_path=str(tmp_path / "gone.png"))
    with pytest.raises(ImageError, match=r"gone\.png"):
        build_index([node_of("胎压"), gone], tiny_embedding, ocr=make_ocr())
    index = build_index([node_of("胎压"), gone], tiny_embedding, ocr=make_ocr(), on_error="skip")
    assert [node.node_id for node in index.image_store.get_nodes()] == ["胎压"]
    assert list(index.skipped) == ["gone"]


def test_another_value_of_ocr_is_an_error(tiny_embedding: ChineseClipEmbedding) -> None:
    with pytest.raises(TypeError, match="ocr is 'yes'; give True, False or an ImageOcr"):
        build_index([node_of("胎压")], tiny_embedding, ocr="yes")  # type: ignore[arg-type]


# RapidOCR


@pytest.fixture(scope="session")
def needs_ocr() -> None:
    """Skips the test if the extra ``ocr`` is not installed."""
    pytest.importorskip("rapidocr")
    pytest.importorskip("openvino")


def without_text(node: ImageNode) -> BaseNode:
    return with_page_text(node.model_copy(update={"text": ""}), "", "text_layer")


def missing_characters(read: str, expected: str) -> int:
    """Return how many characters of a text were not read, whatever their order."""
    return sum(max(0, expected.count(each) - read.count(each)) for each in set(expected) - set(" \n"))


def test_rapidocr_reads_a_page(needs_ocr: None, tmp_path: Path) -> None:
    node = PageReader(longest_side=960).load_data(CASES / "lecture.pdf")[1]
    ocr = ImageOcr(engine=RapidOcrEngine(threads=1), cache_path=tmp_path / "ocr.sqlite3", on_error="raise")
    (read,) = ocr([without_text(node)])
    assert missing_characters(page_text_of(read), node.text) <= 0.01 * len(node.text)
    blank = Image.new("RGB", load_image(node).size, "white")
    assert ocr.engine(blank) == []


@pytest.mark.integration
@pytest.mark.parametrize("name", ["lecture", "car_maintenance"])
def test_pages_of_the_cases_are_read_with_two_processes(needs_ocr: None, tmp_path: Path, name: str) -> None:
    nodes = PageReader(longest_side=3840).load_data(CASES / f"{name}.pdf")
    ocr = ImageOcr(cache_path=tmp_path / "ocr.sqlite3", num_workers=2, on_error="raise")
    read = ocr(list(map(without_text, nodes)))
    missing = sum(missing_characters(page_text_of(page), node.text) for page, node in zip(read, nodes, strict=True))
    assert missing <= 0.01 * sum(len(node.text) for node in nodes)
    # Sentences are whole if their wrapped lines are joined in the right order.
    content = json.loads((CASES / f"{name}.json").read_text(encoding="utf-8"))
    texts = [re.sub(r"\s", "", page_text_of(page)) for page in read]
    whole = [
        re.sub(r"\s", "", sentence) in text
        for text, page in zip(texts, content["pages"], strict=True)
        for sentence in page["sentences"]
    ]
    assert sum(whole) >= 0.95 * len(whole)


@pytest.mark.integration
def test_photographs_have_no_page_text_but_words_on_labels(needs_ocr: None, tmp_path: Path, photos: list[Path]) -> None:
    ocr = ImageOcr(cache_path=tmp_path / "ocr.sqlite3", on_error="raise")
    assert set(texts_of(ocr([ImageNode(image_path=str(photo)) for photo in photos]))) == {"", "PULL&BEAR"}


def test_an_index_that_reads_pages_by_ocr_warns_of_no_scans(
    tiny_embedding: ChineseClipEmbedding, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scan = Path(__file__).parents[1] / "data" / "pages" / "form.pdf"
    ocr = ImageOcr(engine=lambda image: [], cache_path=tmp_path / "ocr.sqlite3")

    def pages() -> Iterator[ImageNode]:
        return PageReader(longest_side=64).lazy_load_data(scan)

    index = build_index(pages(), tiny_embedding, ocr=ocr)
    index.insert_nodes(pages())
    index.insert_batches([node] for node in pages())
    assert "no text layer" not in caplog.text
    # Others are warned, also afterwards.
    build_index(pages(), tiny_embedding)
    assert caplog.text.count("no text layer") == 1
