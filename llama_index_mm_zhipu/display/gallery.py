"""``show``: a query, an answer and its images as HTML, for notebooks and as a standalone page."""

from __future__ import annotations

import hashlib
import itertools
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.chat_engine.types import StreamingAgentChatResponse
from llama_index.core.schema import BaseNode, NodeWithScore
from PIL import Image

from llama_index_mm_zhipu.arguments import explicit_arguments
from llama_index_mm_zhipu.display.results import Query, language_of, query_parts, results_of
from llama_index_mm_zhipu.images import (
    ImageError,
    UrlRules,
    caption_of,
    encode_image,
    has_image,
    load_image,
    page_text_of,
)
from llama_index_mm_zhipu.prompts.wording import Wording, wording_of
from llama_index_mm_zhipu.query.citations import CITATIONS, mentions_in
from llama_index_mm_zhipu.query.sources import SKIPPED
from llama_index_mm_zhipu.readers.records import time_of
from llama_index_mm_zhipu.text import counted
from llama_index_mm_zhipu.types import Language

THUMBNAIL_SIDE = 256
"""Maximum width and height of the images in a gallery, in pixels. Such an image takes about 5 kB."""

MAX_RESULTS = 50
"""Default for the number of results in a gallery; a line below them says how many were left out."""

_QUALITY = 80
_MAX_TEXT = 300
_STYLE = Path(__file__).with_name("gallery.css")
# Makes element ids unique where one page holds two galleries with the same content.
_gallery_numbers = itertools.count(1)


class Gallery:
    """A query, an answer and its images as HTML that has no scripts and loads no other file.

    A notebook displays the gallery if it is the last line of a cell.

    Attributes:
        title: The words of the query; where it has none, the word "query" in the language of the gallery.

    Examples:
        >>> gallery = show("红苹果", index.as_retriever(similarity_top_k=2).retrieve("红苹果"))
        >>> gallery.title, "<script" in gallery.save("results.html").read_text(encoding="utf-8")
        ('红苹果', False)
    """

    def __init__(self, title: str, body: str, result_count: int) -> None:
        self.title = title
        self._body = body
        self._result_count = result_count

    def __repr__(self) -> str:
        return f"<Gallery of {counted(self._result_count, 'result')}; .save('results.html') writes it as a page>"

    def _repr_html_(self) -> str:
        return f"<style>{_STYLE.read_text(encoding='utf-8')}</style>\n{self._body}"

    def save(self, path: str | Path) -> Path:
        """Write the gallery as a standalone HTML page, which contains the images.

        Args:
            path: The file, such as ``results.html``. Missing directories are created.

        Returns:
            The path of the file, with ``~`` expanded.

        Raises:
            OSError: The file cannot be written.

        Examples:
            >>> show("帆船", index.as_retriever().retrieve("帆船")).save("pages/results.html").exists()
            True
        """
        file = Path(path).expanduser()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_PAGE.format(title=escape(self.title), content=self._repr_html_()), encoding="utf-8")
        return file


# The security policy forbids scripts and requests, whatever captions and answers contain.
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
    """One result as it is shown.

    Attributes:
        anchor: Id of the HTML element.
        number: Number of the image in prompts and answers; None for a text.
        result: The node and its score.
        is_cited: Whether the answer cites the image.
    """

    anchor: str
    number: int | None
    result: NodeWithScore
    is_cited: bool


class _Answer(NamedTuple):
    """The parts of a response besides its sources.

    Attributes:
        text: Text of the answer; of a stream, as much as is known.
        cited_ids: Ids of the nodes that the answer cites, from the metadata of the response.
        skipped: Reasons by node id for the images that were found but could not be read.
    """

    text: str = ""
    cited_ids: frozenset[str] = frozenset()
    skipped: Mapping[str, str] = MappingProxyType({})


@explicit_arguments
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

    In an answer each ``[图1]`` is a link to its image, and cited images are marked. Images are reduced to 256 pixels.
    If an image cannot be read, the reason is shown in its place.

    Args:
        query: The words of the query; its image, in any form that ``images.load_image`` accepts; or a ``QueryBundle``
            of both. A string that is not an image counts as words. None shows the results alone.
        results: Nodes with or without scores, retriever output, a response of a query engine or a chat engine, or
            images given as path, URL, ``bytes`` or ``PIL.Image``. A stream is read to its end, unless it is
            asynchronous.
        language: Language of names and headings. The default is the language of the query and the captions.
        max_results: Maximum number of results to show, 50 by default.
        allow_urls: Whether to fetch images given by ``http(s)`` URL. Proxies are not used.
        allow_private_urls: Whether such URLs may lead to this machine or a private network.

    Returns:
        A gallery, which notebooks display; ``gallery.save("results.html")`` writes it as a page.

    Raises:
        ImageError: The image of the query cannot be read.
        TypeError: A result is neither a node nor an image.
        ValueError: ``max_results`` is below 1.

    Examples:
        >>> response = index.as_query_engine(llm, similarity_top_k=2).query("红苹果")
        >>> show("红苹果", response).save("answer.html").name
        'answer.html'
    """
    if max_results < 1:
        raise ValueError(f"max_results is {max_results}; it must be at least 1")
    urls = UrlRules(allowed=allow_urls, allow_private=allow_private_urls)
    answer = _answer_of(results)
    found = results_of(results)
    words, image = query_parts(query, urls)
    wording = wording_of(language or language_of(words, found))
    cards = _cards(found, answer, _anchor_prefix(words, answer.text, found))
    sections = [
        _query_html(words, image, wording),
        _results_html(answer, cards[:max_results], urls, wording),
        _left_out_html(len(cards) - max_results, wording),
    ]
    return Gallery(_printable(words or wording.query), _gallery_html(sections, wording), len(found))


def _answer_of(results: Any) -> _Answer:
    if not hasattr(results, "source_nodes"):
        return _Answer()
    # Read the text first: a stream completes its metadata at its end.
    text = _text_of(results)
    metadata = getattr(results, "metadata", None)
    metadata = metadata if isinstance(metadata, dict) else {}
    citations, skipped = metadata.get(CITATIONS), metadata.get(SKIPPED)
    return _Answer(
        text,
        frozenset(citations.values()) if isinstance(citations, dict) else frozenset(),
        skipped if isinstance(skipped, dict) else {},
    )


def _text_of(response: Any) -> str:
    """Return the text of a response; a synchronous stream is read to its end."""
    if isinstance(response, Response):
        return response.response or ""
    if isinstance(response, StreamingResponse):
        # Reads the rest of the stream. Of a stream that was read by a loop, LlamaIndex keeps no text.
        str(response)
    if isinstance(response, (StreamingResponse, AsyncStreamingResponse)):
        return response.response_txt or ""
    if isinstance(response, StreamingAgentChatResponse):
        if response.chat_stream is not None and not response.is_done:
            for _ in response.response_gen:
                pass
        return str(response) or response.unformatted_response
    return str(response)


def _anchor_prefix(words: str, answer: str, results: Sequence[NodeWithScore]) -> str:
    """Return a prefix for element ids that is unique on a page, and the same in each run of a program."""
    content = "\0".join([words, answer, *(result.node.node_id for result in results)])
    return f"mmz-{hashlib.sha256(content.encode('utf-8', 'replace')).hexdigest()[:8]}-{next(_gallery_numbers)}"


def _cards(results: Sequence[NodeWithScore], answer: _Answer, prefix: str) -> list[_Card]:
    cited = {number for mention in mentions_in(answer.text) for number in mention.numbers}
    numbers = itertools.count(1)
    cards: list[_Card] = []
    for position, result in enumerate(results, 1):
        number = next(numbers) if has_image(result.node) else None
        is_cited = number is not None and (number in cited or result.node.node_id in answer.cited_ids)
        cards.append(_Card(f"{prefix}-{position}", number, result, is_cited))
    return cards


# HTML


def _gallery_html(sections: Sequence[str], wording: Wording) -> str:
    # The last two classes keep notebooks from reading prices in dollars as formulas.
    classes = "mmz-gallery mathjax_ignore tex2jax_ignore"
    return _printable(f'<div class="{classes}" lang="{wording.html_language}">\n{"".join(sections)}</div>\n')


def _printable(text: str) -> str:
    """Replace lone surrogates, which occur in file names of other encodings and cannot be written to a page."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _query_html(words: str, image: Image.Image | None, wording: Wording) -> str:
    if not words and image is None:
        return ""
    shown = _image_html(image, wording.query) if image is not None else ""
    return f'<div class="mmz-query">{_heading(wording.query)}{shown}<p>{escape(_shortened(words))}</p></div>\n'


def _results_html(answer: _Answer, cards: Sequence[_Card], urls: UrlRules, wording: Wording) -> str:
    anchors = {card.number: card.anchor for card in cards if card.number}
    return "".join(
        [
            _answer_html(answer.text, anchors, wording),
            *(_card_html(card, urls, wording) for card in cards),
            *(_skipped_html(node_id, reason) for node_id, reason in answer.skipped.items()),
        ]
    )


def _left_out_html(count: int, wording: Wording) -> str:
    return f"<p>{escape(wording.not_shown.format(count=count))}</p>" if count > 0 else ""


def _answer_html(answer: str, anchors: Mapping[int, str], wording: Wording) -> str:
    if not answer:
        return ""
    pieces: list[str] = []
    end = 0
    for mention in mentions_in(answer):
        anchor = anchors.get(mention.numbers[-1])
        if anchor is None:
            continue
        name = answer[mention.start : mention.end]
        if "[" not in name and "【" not in name:
            # Keep closing brackets and asterisks around the name out of the link.
            name = name.rstrip("]】*")
        pieces += [escape(answer[end : mention.start]), f'<a href="#{anchor}">{escape(name)}</a>']
        end = mention.start + len(name)
    text = "".join([*pieces, escape(answer[end:])])
    return f'<div class="mmz-answer">{_heading(wording.answer)}<p>{text}</p></div>\n'


def _heading(text: str) -> str:
    # An <h3> would appear in the table of contents of a notebook.
    return f'<div class="mmz-heading">{escape(text)}</div>'


def _card_html(card: _Card, urls: UrlRules, wording: Wording) -> str:
    node = card.result.node
    is_image = card.number is not None
    caption = _shortened(caption_of(node) or page_text_of(node) or (node.node_id if is_image else node.get_content()))
    name = f"<b>{escape(wording.name.format(number=card.number))}</b>" if is_image else ""
    score = "" if card.result.score is None else f"<span>{card.result.score:.4f}</span>"
    time = f"<span>{escape(time_of(node))}</span>" if time_of(node) else ""
    mark = f"<mark>{escape(wording.cited)}</mark>" if card.is_cited else ""
    cited = " mmz-cited" if card.is_cited else ""
    return (
        f'<figure class="mmz-card{cited}" id="{card.anchor}" title="{escape(node.node_id)}">'
        f"{_thumbnail_html(node, caption, urls) if is_image else ''}"
        f"<figcaption>{name}{score}{time}{mark}<p>{escape(caption)}</p></figcaption></figure>\n"
    )


def _skipped_html(node_id: str, reason: str) -> str:
    return (
        f'<figure class="mmz-card" title="{escape(node_id)}">{_reason_html(reason)}'
        f"<figcaption><p>{escape(node_id)}</p></figcaption></figure>\n"
    )


def _thumbnail_html(node: BaseNode, caption: str, urls: UrlRules) -> str:
    try:
        return _image_html(load_image(node, urls=urls), caption)
    except ImageError as error:
        return _reason_html(str(error))


def _reason_html(reason: str) -> str:
    return f'<p class="mmz-missing">{escape(reason)}</p>'


def _image_html(image: Image.Image, description: str) -> str:
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    data = b64encode(encode_image(image, quality=_QUALITY)).decode("ascii")
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img src="data:image/jpeg;base64,{data}" alt="{escape(description)}" {size}>'


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"
