"""``show``: a query, an answer and its images as HTML, for notebooks and as a page of its own."""

from __future__ import annotations

import hashlib
import itertools
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.chat_engine.types import StreamingAgentChatResponse
from llama_index.core.schema import NodeWithScore
from PIL import Image

from llama_index_mm_zhipu.display.results import Query, language_of, query_parts, results_of
from llama_index_mm_zhipu.images import ImageError, UrlRules, encode_image, has_image, load_image
from llama_index_mm_zhipu.picture_nodes import caption_of
from llama_index_mm_zhipu.query.citations import CITATIONS, mentions_in
from llama_index_mm_zhipu.wording import Language, Wording, wording_of

THUMBNAIL_SIDE = 256
"""Longest side of the images in a gallery, in pixels: some 5 kB each."""

MAX_RESULTS = 50
"""Results in a gallery; the number of those left out is said below."""

_QUALITY = 80
_MAX_TEXT = 300
_STYLE = Path(__file__).with_name("gallery.css")
# Galleries of equal content may stand on one page.
_numbers = itertools.count(1)


class Gallery:
    """A query, an answer and its images as HTML without scripts, which needs no other file.

    As the last line of a notebook cell it shows itself.

    Attributes:
        title: The query in words.
    """

    def __init__(self, title: str, body: str, result_count: int) -> None:
        self.title = title
        self._body = body
        self._result_count = result_count

    def __repr__(self) -> str:
        return f"<Gallery of {self._result_count} results; .save('results.html') writes it as a page>"

    def _repr_html_(self) -> str:
        return f"<style>{_STYLE.read_text(encoding='utf-8')}</style>\n{self._body}"

    def save(self, path: str | Path) -> Path:
        """Write the gallery as a page of its own, whose images are inside.

        Args:
            path: The file, such as ``results.html``; its folder is made if missing.

        Returns:
            The path.

        Raises:
            OSError: It cannot be written.
        """
        file = Path(path).expanduser()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_PAGE.format(title=escape(self.title), content=self._repr_html_()), encoding="utf-8")
        return file


# The policy lets nothing be loaded or run, whatever captions and answers hold.
_PAGE = """<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
</head>
<body>
{content}
</body>
</html>
"""


class _Card(NamedTuple):
    """One result, ready to be written.

    Attributes:
        anchor: Id of its element.
        name: Such as ``图1``; empty for texts.
        result: The node and its score.
        is_cited: Whether the answer cites it.
    """

    anchor: str
    name: str
    result: NodeWithScore
    is_cited: bool


def show(
    query: Query,
    results: Any,
    *,
    language: Language | None = None,
    max_results: int = MAX_RESULTS,
    allow_urls: bool = False,
    allow_private_urls: bool = False,
) -> Gallery:
    """Show a query and its results, or an answer and its sources, as an HTML gallery.

    In an answer each ``[图1]`` is a link to its image, and cited images are marked. Images are shrunk to 256 pixels;
    where one cannot be read, the reason stands in its place.

    Args:
        query: The words of the query, or its image in any form that ``images.load_image`` takes, or a ``QueryBundle``
            of both; a string that is no image counts as words. None shows the results alone.
        results: Nodes with or without scores, retriever output, a response of a query engine or a chat engine, streamed
            or not (a stream is read to its end, unless it is asynchronous), or images by path, URL, ``bytes`` or
            ``PIL.Image``.
        language: Of names and headings; None takes that of query and captions.
        max_results: How many results to show at most.
        allow_urls: Whether to fetch images given by ``http(s)`` URL. Proxies are not used.
        allow_private_urls: Whether such URLs may lead to this machine or a private network.

    Returns:
        A gallery, which notebooks show; ``gallery.save("results.html")`` writes a page.

    Raises:
        ImageError: The query's image cannot be read.
        TypeError: There is something among the results that is neither a node nor an image.
    """
    urls = UrlRules(allowed=allow_urls, private=allow_private_urls)
    answer = _answer_of(results)
    found = results_of(results)
    words, image = query_parts(query, urls)
    wording = wording_of(language or language_of(words, found))
    cited = _cited_numbers(results, answer, found)
    cards = _cards(found, cited, _anchor_prefix(words, answer, found), wording)
    parts = [
        _query_html(words, image, wording),
        _answer_html(answer, {card.name: card.anchor for card in cards if card.name}, wording),
        *(_card_html(card, urls, wording) for card in cards[:max_results]),
    ]
    left_out = len(cards) - max_results
    if left_out > 0:
        parts.append(f"<p>{escape(wording.not_shown.format(count=left_out))}</p>")
    body = f'<div class="mmz-gallery" lang="{wording.html_language}">\n{"".join(parts)}</div>\n'
    return Gallery(words or wording.query, body, len(found))


def _answer_of(results: Any) -> str:
    """Return the text of a response, of a synchronous stream its whole text; of what is none, nothing."""
    if isinstance(results, Response):
        return results.response or ""
    if isinstance(results, StreamingResponse):
        # Reads what is left of the stream; without effect on one that a loop has read, whose text nobody kept.
        str(results)
    if isinstance(results, (StreamingResponse, AsyncStreamingResponse)):
        return results.response_txt or ""
    if isinstance(results, StreamingAgentChatResponse):
        if results.chat_stream is not None and not results.is_done:
            for _ in results.response_gen:
                pass
        return str(results) or results.unformatted_response
    return str(results) if hasattr(results, "source_nodes") else ""


def _cited_numbers(results: Any, answer: str, found: Sequence[NodeWithScore]) -> set[int]:
    """Return the numbers of the images that an answer cites, or, where its text is lost, that the response says."""
    if answer:
        return {number for mention in mentions_in(answer) for number in mention.numbers}
    citations = (getattr(results, "metadata", None) or {}).get(CITATIONS, {})
    cited = {node.node_id for node in citations.values()}
    images = (result.node for result in found if has_image(result.node))
    return {number for number, image in enumerate(images, 1) if image.node_id in cited}


def _anchor_prefix(words: str, answer: str, results: Sequence[NodeWithScore]) -> str:
    """Return a beginning for ids that no other gallery on a page has, the same at each run of a program."""
    content = "\0".join([words, answer, *(result.node.node_id for result in results)])
    return f"mmz-{hashlib.sha256(content.encode('utf-8', 'replace')).hexdigest()[:8]}-{next(_numbers)}"


def _cards(results: Sequence[NodeWithScore], cited: set[int], prefix: str, wording: Wording) -> list[_Card]:
    cards: list[_Card] = []
    number = 0
    for position, result in enumerate(results, 1):
        name = ""
        if has_image(result.node):
            number += 1
            name = wording.name.format(number=number)
        cards.append(_Card(f"{prefix}-{position}", name, result, bool(name) and number in cited))
    return cards


def _query_html(words: str, image: Image.Image | None, wording: Wording) -> str:
    if not words and image is None:
        return ""
    shown = _image_html(image, wording.query) if image is not None else ""
    return f'<div class="mmz-query"><h3>{escape(wording.query)}</h3>{shown}<p>{escape(words)}</p></div>\n'


def _answer_html(answer: str, anchors: dict[str, str], wording: Wording) -> str:
    if not answer:
        return ""
    pieces: list[str] = []
    end = 0
    for mention in mentions_in(answer):
        anchor = anchors.get(wording.name.format(number=mention.numbers[-1]))
        if anchor is None:
            continue
        name = answer[mention.start : mention.end].rstrip("]】*")
        pieces += [escape(answer[end : mention.start]), f'<a href="#{anchor}">{escape(name)}</a>']
        end = mention.start + len(name)
    text = "".join([*pieces, escape(answer[end:])])
    return f'<div class="mmz-answer"><h3>{escape(wording.answer)}</h3><p>{text}</p></div>\n'


def _card_html(card: _Card, urls: UrlRules, wording: Wording) -> str:
    node = card.result.node
    caption = caption_of(node) or (node.node_id if card.name else node.get_content())
    if len(caption) > _MAX_TEXT:
        caption = caption[:_MAX_TEXT] + "…"
    score = "" if card.result.score is None else f"<span>{card.result.score:.4f}</span>"
    name = f"<b>{escape(card.name)}</b>" if card.name else ""
    mark = f"<mark>{escape(wording.cited)}</mark>" if card.is_cited else ""
    cited = " mmz-cited" if card.is_cited else ""
    return (
        f'<figure class="mmz-card{cited}" id="{card.anchor}" title="{escape(node.node_id)}">'
        f"{_picture_html(card, caption, urls) if card.name else ''}"
        f"<figcaption>{name}{score}{mark}<p>{escape(caption)}</p></figcaption></figure>\n"
    )


def _picture_html(card: _Card, caption: str, urls: UrlRules) -> str:
    try:
        return _image_html(load_image(card.result.node, urls=urls), caption)
    except ImageError as error:
        return f'<p class="mmz-missing">{escape(str(error))}</p>'


def _image_html(image: Image.Image, description: str) -> str:
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    data = b64encode(encode_image(image, quality=_QUALITY)).decode("ascii")
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(description)}" {size}>'
