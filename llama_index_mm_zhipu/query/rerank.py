"""``ImageReranker``: a multimodal LLM looks at the candidates and scores them."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.bridge.pydantic import Field, SerializeAsAny
from llama_index.core.llms import LLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle
from llama_index.core.utils import iter_batch
from PIL import Image

from llama_index_mm_zhipu.arguments import KnownFields
from llama_index_mm_zhipu.concurrency import gather_or_cancel, run_in_new_loop
from llama_index_mm_zhipu.images import (
    CELL_SIDE,
    ImageError,
    as_image_node,
    contact_sheet,
    has_image,
    load_image,
    resolve_source,
    searchable_text_of,
    with_hidden_metadata,
)
from llama_index_mm_zhipu.llm.errors import GLMContentFilteredError
from llama_index_mm_zhipu.llm.images import encode_within_limits, image_block
from llama_index_mm_zhipu.llm.llm import llm_or_default
from llama_index_mm_zhipu.llm.structured_answers import decode_json
from llama_index_mm_zhipu.prompts.templates import RERANK_PROMPTS
from llama_index_mm_zhipu.prompts.wording import quoted, wording_of
from llama_index_mm_zhipu.query.compose import Composer
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.types import Language

logger = logging.getLogger(__name__)

_HIGHEST = 10.0
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_FIELD = re.compile(r'"(number|score)" ?: ?"?(-?\d{1,6}(?:\.\d{1,9})?)', re.IGNORECASE)
_REASON = re.compile(r'"reason" ?: ?"(.*)', re.IGNORECASE | re.DOTALL)

NO_SCORE = -1.0
"""Score of a candidate without one."""


class Verdict(NamedTuple):
    """What the model says of a candidate.

    Attributes:
        score: From 0 to 10; -1 for none.
        reason: In a sentence; may be empty.
    """

    score: float
    reason: str


def verdicts_in(answer: str, count: int) -> dict[int, Verdict] | None:
    """Find verdicts in an answer: JSON, with or without text or fences around it, whole, cut, or with broken strings.

    Args:
        answer: What the model wrote.
        count: How many candidates there are.

    Returns:
        Verdicts by number from 1, the last of each; None where there is none, or where the model counts from 0.
    """
    verdicts: dict[int, Verdict] = {}
    for item in _items(answer):
        score = _number(item.get("score"))
        # Of a single candidate, models leave the number out.
        number = _number(item.get("number", 1 if count == 1 else None))
        if score is None or number is None:
            continue
        if number == 0:
            return None
        if 1 <= number <= count:
            reason = " ".join(str(item.get("reason") or "").split())
            verdicts[int(number)] = Verdict(min(max(score, 0.0), _HIGHEST), reason)
    return verdicts or None


def _items(text: str) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a text that hold a score."""
    place = text.find("{")
    while place >= 0:
        item, end = _decoded(text, place)
        if "score" in item:
            yield item
            place = text.find("{", end)
        else:
            place = text.find("{", place + 1)


def _decoded(text: str, place: int) -> tuple[dict[str, Any], int]:
    """Decode the object that begins at a position; of a broken one, the fields that can be read."""
    try:
        value, end = decode_json(text, place)
    except ValueError:
        end = text.find("{", place + 1)
        end = end if end >= 0 else len(text)
        fields = {name.lower(): value for name, value in _FIELD.findall(text[place:end])}
        reason = _REASON.search(text[place:end])
        return {**fields, **({"reason": reason.group(1).rstrip('"}], \n')} if reason else {})}, end
    return {str(name).lower(): item for name, item in value.items()}, end


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value) if math.isfinite(value) else None
    found = _NUMBER.search(str(value))
    return float(found.group()) if found else None


RERANK_REASON = "rerank_reason"
"""Metadata key of reranked nodes: why the model gave its score, or why there is no score."""

NOT_READ = "not reranked: the model's answer could not be read"

_NOT_SCORED = "the model gave no score"

# The decoded images of this many requests are in memory at a time.
_PREPARED_AT_A_TIME = 2

_BEGINNING = 200

# Characters of a text that the model sees: whole chunks of documents, and the beginning of long pages.
_MAX_TEXT = 2_000


class ImageReranker(KnownFields, BaseNodePostprocessor):
    """Node postprocessor that has a multimodal LLM score each candidate from 0 to 10, with a reason.

    Scores replace those of retrieval. Reasons are in ``node.metadata["rerank_reason"]``, hidden from LLMs. Candidates
    without a score come last. If an answer cannot be read, all candidates keep their order and scores, and a warning
    and the reasons say so.

    Args:
        llm: A multimodal chat LLM; by default ``Settings.llm`` if one was set, else ``ZhipuMultiModal()``.
        top_n: How many candidates to keep, 5 by default.
        mode: ``"sheet"``, the default, puts up to ``choice_batch_size`` candidates on one numbered contact sheet, which
            is cheaper; ``"single"`` sends a request for each candidate, in full size, all at the same time.
        choice_batch_size: How many candidates a sheet holds, 9 by default.
        language: ``"zh"``, the default, or ``"en"``, the language of prompt and reasons.

    Examples:
        >>> reranker = ImageReranker(llm, top_n=2)
        >>> found = index.as_retriever(similarity_top_k=4).retrieve("红苹果")
        >>> for result in reranker.postprocess_nodes(found, query_str="红苹果"):
        ...     print(result.node.text, result.score, result.node.metadata["rerank_reason"])
        红苹果 10.0 问题中100%的字在说明里
        男鞋 0.0 问题中0%的字在说明里
    """

    llm: SerializeAsAny[LLM] = Field(description="Scores the candidates.")
    top_n: int = Field(default=5, gt=0, description="How many candidates to keep.")
    mode: Literal["sheet", "single"] = Field(default="sheet", description="On numbered sheets, or one by one.")
    choice_batch_size: int = Field(default=9, gt=0, description="How many candidates a sheet holds.")
    language: Language = Field(default="zh", description="Language of prompt and reasons.")

    def __init__(self, llm: LLM | None = None, **kwargs: Any) -> None:
        self._require_known_fields(kwargs)
        super().__init__(llm=llm_or_default(llm), **kwargs)

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this component."""
        # The name that stored JSON has; the class was called so before.
        return "GLMRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return run_in_new_loop(self._apostprocess_nodes(nodes, query_bundle))

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("ImageReranker needs the question; give query_bundle or query_str")
        if not nodes:
            return []
        size = self.choice_batch_size if self.mode == "sheet" else 1
        preparing = asyncio.Semaphore(_PREPARED_AT_A_TIME)
        judged = await gather_or_cancel(
            self._judge(batch, query_bundle, preparing) for batch in iter_batch(nodes, size)
        )
        if any(verdicts is None for verdicts in judged):
            logger.warning("the model's answer with scores could not be read: %d results stay as retrieved", len(nodes))
            return [_with_reason(result, NOT_READ, result.score) for result in nodes[: self.top_n]]
        verdicts = [verdict for batch in judged for verdict in batch or ()]
        if missing := sum(verdict.score < 0 for verdict in verdicts):
            logger.warning("%d of %d candidates got no score, and come last", missing, len(nodes))
        order = sorted(range(len(nodes)), key=lambda row: -verdicts[row].score)
        scored = [_with_reason(nodes[row], verdicts[row].reason, verdicts[row].score) for row in order]
        return scored[: self.top_n]

    async def _judge(
        self, batch: list[NodeWithScore], query: QueryBundle, preparing: asyncio.Semaphore
    ) -> list[Verdict] | None:
        """Return a verdict for each candidate, or None if the answer cannot be read."""
        async with preparing:
            blocks, failed = await asyncio.to_thread(self._blocks, batch, query)
        try:
            answer = await self.llm.achat([ChatMessage(role=MessageRole.USER, blocks=blocks)])
        except GLMContentFilteredError as error:
            return [Verdict(NO_SCORE, str(error))] if len(batch) == 1 else None
        text = answer.message.content or ""
        verdicts = verdicts_in(text, len(batch))
        if verdicts is None:
            logger.warning("no scores can be read in the model's answer; it begins: '%s'", one_line(text[:_BEGINNING]))
            return None
        missing = Verdict(NO_SCORE, _NOT_SCORED)
        return [
            Verdict(NO_SCORE, failed[number]) if number in failed else verdicts.get(number, missing)
            for number in range(1, len(batch) + 1)
        ]

    def _blocks(
        self, batch: Sequence[NodeWithScore], query: QueryBundle
    ) -> tuple[list[TextBlock | ImageBlock], dict[int, str]]:
        """Return the content of a request, and the reasons, by number, of images that cannot be read."""
        wording = RERANK_PROMPTS[self.language]
        lines = [wording["introduction"]]
        on_sheet: dict[int, Image.Image] = {}
        singly: list[TextBlock | ImageBlock] = []
        failed: dict[int, str] = {}
        for number, result in enumerate(batch, start=1):
            name = wording["candidate"].format(number=number)
            words = wording_of(self.language)
            is_image = has_image(result.node)
            text = searchable_text_of(result.node)[:_MAX_TEXT]
            lines.append(f"{name}{quoted(text, words) if text.strip() else words.no_caption}")
            if not is_image:
                continue
            node = as_image_node(result.node)
            try:
                if self.mode == "single":
                    singly.append(image_block(node))
                elif isinstance(resolve_source(node), str):
                    # Images on the web are sent by their URL.
                    singly += [TextBlock(text=name), image_block(node)]
                else:
                    on_sheet[number] = _small(node)
            except ImageError as error:
                failed[number] = str(error)
        asked = TextBlock(text=wording["ask"].format(question=query.query_str, count=len(batch)))
        return [
            *Composer(self.language).blocks_of_question(query),
            TextBlock(text="\n".join(lines)),
            *([_sheet(on_sheet)] if on_sheet else []),
            *singly,
            asked,
        ], failed


def _small(node: ImageNode) -> Image.Image:
    image = load_image(node)
    image.thumbnail((CELL_SIDE, CELL_SIDE), Image.Resampling.LANCZOS)
    return image


def _sheet(images: dict[int, Image.Image]) -> ImageBlock:
    sheet = contact_sheet(list(images.values()), list(images))
    return ImageBlock(image=encode_within_limits(sheet), image_mimetype="image/jpeg")


def _with_reason(result: NodeWithScore, reason: str, score: float | None) -> NodeWithScore:
    return NodeWithScore(node=with_hidden_metadata(result.node, {RERANK_REASON: reason}), score=score)
