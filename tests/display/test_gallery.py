"""``show`` makes a page of results, answers and citations, explains what is missing, and escapes all data."""

from __future__ import annotations

import os
import re
import shutil
from base64 import b64decode
from collections.abc import Callable
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from llama_index.core.base.response.schema import Response
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle, TextNode
from PIL import Image

from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index, show
from llama_index_mm_zhipu.display import Gallery
from llama_index_mm_zhipu.testing import MockGLMServer, Says


class Page(HTMLParser):
    """The elements, text and links of a gallery, as an HTML parser sees them."""

    def __init__(self, gallery: Gallery) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.links: list[tuple[str, str]] = []
        self._target: str | None = None
        self._in_style = False
        self.feed(gallery._repr_html_())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._in_style = tag == "style"
        self._target = dict(attributes)["href"] if tag == "a" else None

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False
        self._target = None

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.text += data
        if self._target is not None:
            self.links.append((data, self._target.removeprefix("#")))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def cited(self) -> list[str | None]:
        """Return the node ids of the cards that are marked as cited."""
        return [card["title"] for card in self.all("figure") if "mmz-cited" in str(card["class"])]

    def linked(self) -> list[tuple[str, str | None]]:
        """Return the text of each link in the answer, and the id of the node that it leads to."""
        ids = {card["id"]: card["title"] for card in self.all("figure")}
        return [(name, ids[anchor]) for name, anchor in self.links]


@pytest.fixture
def results(photo_nodes: list[ImageNode]) -> list[NodeWithScore]:
    return [NodeWithScore(node=node, score=0.9 - number / 10) for number, node in enumerate(photo_nodes[:4])]


def test_results_are_shown_with_number_score_and_caption(results: list[NodeWithScore]) -> None:
    page = Page(show("哪张图里有帽子？", results))
    for number, result in enumerate(results, 1):
        assert f"图{number}{result.score:.4f}{result.node.get_content()}" in page.text
    assert [card["title"] for card in page.all("figure")] == [result.node.node_id for result in results]
    for image in page.all("img"):
        data = b64decode(str(image["src"]).removeprefix("data:image/jpeg;base64,"))
        assert max(Image.open(BytesIO(data)).size) == 256
    assert "哪张图里有帽子？" in page.text
    assert page.cited() == page.links == []


def test_the_time_of_a_video_frame_is_shown(results: list[NodeWithScore]) -> None:
    results[0].node.metadata = {"time": "00:01:23", "time_seconds": 83.0}
    page = Page(show("帽子", Response("见[图1，00:01:23]。", source_nodes=results)))
    assert page.text.count("00:01:23") == 2
    assert page.linked() == [("图1", results[0].node.node_id)]


def test_an_answer_links_to_the_images_that_it_cites(results: list[NodeWithScore]) -> None:
    answer = "帽子在[图2]里，裙子见图1、图3至4；图9没有。**图2**"
    names = [result.node.node_id for result in results]
    page = Page(show("帽子？", Response(answer, source_nodes=results)))

    assert answer in page.text
    assert page.linked() == [
        ("图2", names[1]),
        ("图1", names[0]),
        ("图3", names[2]),
        ("4", names[3]),
        ("图2", names[1]),
    ]
    assert page.cited() == names
    page = Page(show("Which?", Response("Only Picture 2.", source_nodes=results), language="en"))
    assert page.linked() == [("Picture 2", names[1])]
    assert page.cited() == [names[1]]


@pytest.fixture
def ask(
    results: list[NodeWithScore],
    tiny_embedding: ChineseClipEmbedding,
    llm: ZhipuMultiModal,
    server: MockGLMServer,
    tmp_path: Path,
) -> Callable[..., Any]:
    """A function that asks an index of photographs by a query or a chat engine; the answer cites the second image."""
    vanishing = tmp_path / "vanished.jpg"
    shutil.copy(results[0].node.image_path, vanishing)
    nodes = [*(result.node for result in results), ImageNode(id_="vanished", image_path=str(vanishing), text="帽子")]
    index = build_index(nodes, embed_model=tiny_embedding)
    server.script(Says("帽子在图2。"))

    def ask(way: str, *, vanished: bool = False) -> Any:
        if vanished:
            vanishing.unlink()
            return index.as_query_engine(llm=llm, image_similarity_top_k=5).query("帽子？")
        if way == "query":
            return index.as_query_engine(llm=llm).query("帽子？")
        if way == "streamed query":
            return index.as_query_engine(llm=llm, streaming=True).query("帽子？")
        chat = index.as_chat_engine("context", llm=llm)
        return chat.chat("帽子？") if way == "chat" else chat.stream_chat("帽子？")

    return ask


@pytest.mark.parametrize("way", ["query", "streamed query", "chat", "streamed chat"])
def test_responses_of_query_and_chat_engines_are_shown(way: str, ask: Callable[..., Any]) -> None:
    response = ask(way)
    page = Page(show("帽子？", response))
    assert "帽子在图2。" in page.text
    assert page.linked() == [("图2", response.source_nodes[1].node.node_id)]
    assert list(response.metadata["citations"]) == ["图2"]


@pytest.mark.parametrize(("way", "shows_answer"), [("streamed query", False), ("streamed chat", True)])
def test_a_stream_that_was_already_read_shows_its_citations(
    way: str, shows_answer: bool, ask: Callable[..., Any]
) -> None:
    response = ask(way)
    assert "".join(response.response_gen) == "帽子在图2。"
    page = Page(show("帽子？", response))
    assert page.cited() == [response.source_nodes[1].node.node_id]
    # After a stream was read, LlamaIndex has kept the text of a chat response, not that of a query response.
    assert ("帽子在图2。" in page.text) == shows_answer


async def test_async_streams_are_shown_as_far_as_they_were_read(
    results: list[NodeWithScore], tiny_embedding: ChineseClipEmbedding, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    index = build_index([result.node for result in results], embed_model=tiny_embedding)
    server.script(Says("帽子在图2。"), Says("帽子在图2。"))
    streamed = await index.as_query_engine(llm=llm, streaming=True).aquery("帽子？")
    assert "帽子在图2。" not in Page(show("帽子？", streamed)).text
    chatted = await index.as_chat_engine("context", llm=llm).astream_chat("帽子？")
    for response in (streamed, chatted):
        async for _ in response.async_response_gen():
            pass
        assert "帽子在图2。" in Page(show("帽子？", response)).text
    await llm.aclose()


def test_an_unreadable_image_shows_the_reason_and_a_text_has_a_card(results: list[NodeWithScore]) -> None:
    gone = ImageNode(id_="gone", image_path="gone.jpg", text="帽子")
    page = Page(show("帽子？", [results[0], gone, TextNode(id_="manual", text="说明书" * 200), results[1]]))
    assert "no such image: gone.jpg" in page.text
    assert "说明书" * 100 + "…" in page.text
    assert [card["title"] for card in page.all("figure")][1:3] == ["gone", "manual"]
    assert len(page.all("img")) == 2
    # Texts are not numbered.
    assert f"图3{results[1].score:.4f}" in page.text


def test_images_that_were_skipped_in_an_answer_show_the_reason(ask: Callable[..., Any], tmp_path: Path) -> None:
    """Engines skip images that have become unreadable, and report them in the metadata."""
    response = ask("query", vanished=True)
    (vanished,) = response.metadata["skipped"]
    page = Page(show("帽子？", response))
    assert page.all("figure")[-1]["title"] == vanished
    assert f"no such image: {tmp_path / 'vanished.jpg'}" in page.text


def test_only_the_metadata_of_a_response_is_read_for_citations(
    results: list[NodeWithScore], photos: list[Path]
) -> None:
    node = ImageNode(image_path=str(photos[0]), metadata={"citations": 12, "skipped": ["a"]})
    for found in (node, [node], Response("", source_nodes=results, metadata={"citations": ["a"], "skipped": 3})):
        assert Page(show("帽子？", found)).cited() == []


def test_only_images_that_are_shown_are_linked(results: list[NodeWithScore]) -> None:
    page = Page(show("帽子？", Response("图1至图3，图[2]。", source_nodes=results), max_results=2))
    assert page.linked() == [("图1", results[0].node.node_id), ("图[2]", results[1].node.node_id)]
    assert "图1至图3，图[2]。" in page.text
    with pytest.raises(ValueError, match="max_results is 0; it must be at least 1"):
        show("帽子？", results, max_results=0)


def test_file_names_that_are_not_utf_8_can_be_shown_and_saved(photos: list[Path], tmp_path: Path) -> None:
    name = os.fsdecode("帽子.jpg".encode("gbk"))
    shutil.copy(photos[1], tmp_path / name)
    gallery = show("\ud83d 帽子", [tmp_path / name])
    assert len(Page(gallery).all("img")) == 1
    assert gallery.save(tmp_path / "results.html").stat().st_size > 1000


def test_a_query_that_is_a_url_or_a_data_uri_is_shown_without_secrets_and_bytes(photos: list[Path]) -> None:
    page = Page(show("https://me:s3cr3t@example.com/a.jpg?token=s3cr3t", photos[0]))
    assert "https://example.com/a.jpg" in page.text
    assert "s3cr3t" not in page.text
    assert len(Page(show("data:image/png;base64," + "A" * 100_000, photos[0])).text) < 1000


def test_images_given_by_content_are_described(photos: list[Path]) -> None:
    images = [photos[0].read_bytes(), Image.open(photos[1]), "s3://bucket/a.jpg"]
    texts = [Page(show("x", images)).text for _ in range(2)]
    assert texts[0] == texts[1]
    assert f"an image given as {photos[0].stat().st_size} bytes" in texts[0]
    assert "s3://bucket/a.jpg has an unsupported URL scheme" in texts[0]


def test_html_in_the_data_is_escaped(photos: list[Path], tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>&<img src=x onerror=alert(1)>'
    node = ImageNode(id_=evil, image_path=str(photos[0]), text=evil)
    missing = ImageNode(id_="missing", image_path=f"{evil[:40]}.jpg")
    gallery = show(evil, Response(f"图1 {evil}", source_nodes=[NodeWithScore(node=node), NodeWithScore(node=missing)]))
    page = Page(gallery)
    assert {tag for tag, _ in page.tags} <= {"style", "div", "p", "a", "figure", "figcaption", "b", "mark", "img"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.text.count(evil) == 3
    assert page.all("figure")[0]["title"] == evil
    saved = gallery.save(tmp_path / "results.html").read_text(encoding="utf-8")
    assert "<script" not in saved
    assert "&lt;script&gt;" in saved.partition("<title>")[2].partition("</title>")[0]


def test_a_query_image_is_shown_beside_its_words(results: list[NodeWithScore], photos: list[Path]) -> None:
    for query in (photos[1], str(photos[1]), photos[1].read_bytes(), QueryBundle("这是？", image_path=str(photos[1]))):
        page = Page(show(query, results))
        assert len(page.all("img")) == len(results) + 1
    assert "这是？" in page.text
    assert "查询" not in Page(show(None, results)).text


def test_only_the_first_results_are_shown_and_the_others_counted(photos: list[Path]) -> None:
    page = Page(show("裙子", [photos[0]] * 60))
    assert len(page.all("figure")) == 50
    assert "还有 10 个结果没有显示" in page.text
    page = Page(show("dress", [photos[0]] * 3, max_results=2, language="en"))
    assert "1 more results are not shown" in page.text


def test_element_ids_of_two_galleries_differ(results: list[NodeWithScore]) -> None:
    response = Response("图1", source_nodes=results)
    ids = [card["id"] for _ in range(2) for card in Page(show("帽子？", response)).all("figure")]
    assert len(set(ids)) == 2 * len(results)


def test_a_notebook_displays_the_gallery_and_its_repr_is_short(results: list[NodeWithScore]) -> None:
    gallery = show("帽子？", results)
    data, _ = InteractiveShell.instance().display_formatter.format(gallery)
    assert data["text/html"].count("<figure") == len(results)
    assert data["text/plain"] == "<Gallery of 4 results; .save('results.html') writes it as a page>"


def test_a_saved_page_loads_no_other_file(results: list[NodeWithScore], tmp_path: Path) -> None:
    path = show("帽子？", results).save(tmp_path / "new" / "results.html")
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert '<meta charset="utf-8">' in page
    assert "<title>帽子？</title>" in page
    assert "default-src 'none'" in page
    assert re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*", page) == []
    assert path.stat().st_size < 200_000
