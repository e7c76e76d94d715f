"""``ImageCaptioner``: captions and legible text for images without captions, written by a multimodal LLM."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, LLMMetadata, MessageRole, TextBlock
from llama_index.core.bridge.pydantic import Field, PrivateAttr, SerializeAsAny
from llama_index.core.ingestion.pipeline import remove_unstable_values
from llama_index.core.llms import LLM
from llama_index.core.schema import BaseNode, TransformComponent
from tqdm.auto import tqdm

from llama_index_mm_zhipu.arguments import KnownFields
from llama_index_mm_zhipu.concurrency import gather_or_cancel, run_in_new_loop
from llama_index_mm_zhipu.images import caption_of, describe, has_image, read_bytes, resolve_source, with_caption
from llama_index_mm_zhipu.ingestion.cache import CacheError, ResultCache
from llama_index_mm_zhipu.llm.errors import ACCOUNT_ERRORS, EmptyAnswerError
from llama_index_mm_zhipu.llm.images import image_block
from llama_index_mm_zhipu.llm.llm import llm_or_default
from llama_index_mm_zhipu.prompts.templates import CAPTION_PROMPTS
from llama_index_mm_zhipu.prompts.wording import wording_of
from llama_index_mm_zhipu.reporting import Skipped
from llama_index_mm_zhipu.text import one_line, replace_lone_surrogates
from llama_index_mm_zhipu.types import Language, OnError

logger = logging.getLogger(__name__)


class CaptionCacheError(CacheError):
    """The file of cached captions cannot be read or written.

    Examples:
        >>> from pathlib import Path
        >>> _ = Path("captions.sqlite3").write_text("not a database")
        >>> ImageCaptioner(llm, cache_path="captions.sqlite3")(read_folder("images"))
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.ingestion.captioner.CaptionCacheError: the cache of captions at captions.sqlite3
        cannot be used: file is not a database; give another path
    """


# Errors that would recur for every image.
_FATAL_ERRORS = (CaptionCacheError, *ACCOUNT_ERRORS)


class ImageCaptioner(KnownFields, TransformComponent):
    """An ingestion transformation that writes captions for images without one: a description and the legible text.

    Place it before the embedding: the caption then contributes to the vector according to ``caption_weight``, and is
    used by full text search and prompts. Every caption is cached on disk as soon as it is written, by the content of
    the image, the model and the prompt: an interrupted run continues where it stopped, and the LLM is asked once about
    equal images. An answer that was cut off at ``max_tokens`` is an error.

    Args:
        llm: A multimodal chat LLM; the default is ``Settings.llm`` if one was set, otherwise ``ZhipuMultiModal()``.
        language: Language of the captions, ``"zh"``, the default, or ``"en"``.
        prompt: Question about each image; the default is ``CAPTION_PROMPTS[language]``. An answer in another format
            than that of these prompts becomes the caption as a whole.
        num_workers: Number of concurrent requests, 10 by default; ``ZhipuMultiModal(max_concurrency=…)`` is a limit,
            too.
        overwrite: Whether to replace existing captions; False by default.
        on_error: ``"skip"``, the default, leaves images that fail without a caption and lists them in ``skipped``;
            ``"raise"`` raises the first error. A wrong key or an empty account is always raised. Use ``"raise"`` in a
            pipeline with a docstore, which would regard skipped images as done.
        cache_path: SQLite file of captions; the default is ``llama_index_mm_zhipu/captions.sqlite3`` in LlamaIndex's
            cache folder.
        show_progress: Whether to show a progress bar.

    Examples:
        >>> captioner = ImageCaptioner(llm, num_workers=4)
        >>> [node] = captioner(read_folder("images")[:1])
        >>> node.text, captioner.skipped.count
        ('JPEG 128×128，平均颜色 #...', 0)
    """

    llm: SerializeAsAny[LLM] = Field(description="LLM that writes the captions.")
    language: Language = Field(default="zh", description="Language of the captions.")
    prompt: str | None = Field(default=None, description="Question about each image.")
    num_workers: int = Field(default=10, gt=0, description="Number of concurrent requests.")
    overwrite: bool = Field(default=False, description="Whether to replace existing captions.")
    on_error: OnError = Field(default="skip", description="What to do with images that fail: skip or raise.")
    cache_path: str | None = Field(default=None, description="SQLite file of captions.")
    show_progress: bool = Field(default=False, description="Whether to show a progress bar.")

    _skipped: Skipped = PrivateAttr(default_factory=Skipped)

    def __init__(self, llm: LLM | None = None, cache_path: str | Path | None = None, **kwargs: Any) -> None:
        self._require_known_fields(kwargs)
        super().__init__(
            llm=llm_or_default(llm), cache_path=str(cache_path) if cache_path is not None else None, **kwargs
        )

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serializes this component."""
        return "ImageCaptioner"

    @property
    def skipped(self) -> Skipped:
        """Images that got no caption in the last run of this object, with reasons by node id."""
        return self._skipped

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """Caption the images among nodes.

        Args:
            nodes: Nodes of any kind; texts, and by default images with captions, are returned as they are.
            **kwargs: ``show_progress`` overrides the setting; LlamaIndex may pass further ones, which are ignored.

        Returns:
            All nodes in the same order, captioned ones as copies.

        Raises:
            GLMError: The key is wrong or the account is empty; with ``on_error="raise"``, also any failed request.
            ImageError: An image cannot be read, and ``on_error="raise"``.
            CaptionCacheError: The cache cannot be used.
        """
        return run_in_new_loop(self.acall(nodes, **kwargs))

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """As ``__call__``."""
        positions = [
            position
            for position, node in enumerate(nodes)
            if has_image(node) and (self.overwrite or not caption_of(node))
        ]
        if not positions:
            self._skipped = Skipped()
            return list(nodes)
        run = _Run(self, nodes, await asyncio.to_thread(CaptionCache, self.cache_path))
        self._skipped = run.skipped
        disable = not kwargs.get("show_progress", self.show_progress)
        with tqdm(total=len(positions), desc="Captioning images", unit="image", disable=disable) as bar:
            await run.caption_all(positions, bar)
        if run.skipped:
            logger.warning("%s", run.skipped.summary(len(positions)))
        return run.nodes

    def _chosen_prompt(self) -> str:
        # Raises an error that names the languages, also if the prompt does not depend on the language.
        wording_of(self.language)
        return self.prompt or CAPTION_PROMPTS[self.language]


class _Run:
    """One run over a list of nodes.

    Attributes:
        nodes: The nodes, captioned as far as the run has come.
        skipped: Images that failed, with reasons by node id.
    """

    def __init__(self, captioner: ImageCaptioner, nodes: Sequence[BaseNode], cache: CaptionCache) -> None:
        self.nodes = list(nodes)
        self.skipped = Skipped()
        self._captioner = captioner
        self._cache = cache
        self._prompt = captioner._chosen_prompt()
        # Locks by cache key: a second equal image waits for the caption of the first.
        self._locks: dict[str, asyncio.Lock] = {}

    async def caption_all(self, positions: Sequence[int], bar: tqdm[None]) -> None:
        """Caption the nodes at these positions with ``num_workers`` concurrent workers."""
        remaining = iter(positions)
        count = min(self._captioner.num_workers, len(positions))
        await gather_or_cancel(self._work(remaining, bar) for _ in range(count))

    async def _work(self, remaining: Iterator[int], bar: tqdm[None]) -> None:
        """Take positions from an iterator that all workers share, until none is left."""
        for position in remaining:
            node = self.nodes[position]
            try:
                self.nodes[position] = with_caption(node, await self._caption(node))
            except _FATAL_ERRORS:
                raise
            # Other LLMs raise errors of their own classes.
            except Exception as error:
                if self._captioner.on_error == "raise":
                    raise
                self.skipped.add(node.node_id, f"{type(error).__name__}: {one_line(str(error))}")
            bar.update()

    async def _caption(self, node: BaseNode) -> str:
        """Return the caption of an image from the cache, or ask for it and cache it."""
        key = await asyncio.to_thread(self._key, node)
        async with self._locks.setdefault(key, asyncio.Lock()):
            if (cached := await asyncio.to_thread(self._cache.get, key)) is not None:
                return cached
            caption = await self._ask(node)
            await asyncio.to_thread(self._cache.put, key, caption)
            return caption

    async def _ask(self, node: BaseNode) -> str:
        blocks = [await asyncio.to_thread(image_block, node), TextBlock(text=self._prompt)]
        answer = await self._captioner.llm.achat([ChatMessage(role=MessageRole.USER, blocks=blocks)])
        if answer.additional_kwargs.get("finish_reason") == "length":
            raise ValueError(f"the answer about {describe(node)} was cut; raise max_tokens of the LLM")
        caption = parse_answer(replace_lone_surrogates(answer.message.content or ""))
        if not caption:
            raise EmptyAnswerError(f"the model answered nothing about {describe(node)}; run again to ask once more")
        return caption

    def _key(self, node: BaseNode) -> str:
        """Return the cache key: a hash of the image's content or URL, the model and the prompt."""
        source = resolve_source(node)
        image = source.encode() if isinstance(source, str) else read_bytes(source)
        parts = [hashlib.sha256(image).hexdigest(), _model_key(self._captioner.llm), self._prompt]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _model_key(llm: LLM) -> str:
    """Return class and name of a model; for an LLM without a name of its own, also its settings."""
    name = llm.metadata.model_name
    settings = "" if name != LLMMetadata().model_name else remove_unstable_values(str(llm.to_dict()))
    return f"{llm.class_name()} {name} {settings}"


class CaptionCache(ResultCache):
    """Captions by key in a SQLite file, see ``ResultCache``.

    Args:
        path: The file; None is ``llama_index_mm_zhipu/captions.sqlite3`` in LlamaIndex's cache folder.

    Raises:
        CaptionCacheError: The file cannot be written, or is not such a file.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        super().__init__(path, name="captions", column="caption", error=CaptionCacheError)


# Labels and fences that models put around caption and text. All repetitions are bounded: some models fill their answers
# with line breaks, for which unbounded ones would take quadratic time.
_DECORATION = r"[*#>_`\-\d.、）)（(【\[\"“'「一二 \t]{0,8}"
_OF_THE_IMAGE = r"(?:这张|该|此)?(?:图片|图像|照片|图中|图)?的?(?:内容)?的?"
_LABEL = re.compile(
    rf"(?:^|(?<=[\n。；;]))[ \t]{{0,8}}{_DECORATION}{_OF_THE_IMAGE}"
    r"(?:(?P<caption>说明|描述|caption|description)|(?P<text>文字|text))"
    r"(?:[（(][^）)\n]{0,12}[）)])?[*_` \t]{0,4}(?:[：:]|[】\]][：:]?)[*_` \t]{0,4}",
    re.IGNORECASE,
)
_THOUGHT = re.compile(r"\A\s{0,99}<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^```\w{0,20}[ \t]{0,9}$", re.MULTILINE)
_QUOTES = {'"': '"', "“": "”", "「": "」"}
_NO_TEXT = re.compile(
    r"(?:这张|该)?(?:图片?|照片|画面)?[中里上]?(?:没有|未见|无法|无)"
    r"(?:任何|明显|可见|可|辨认|识别|清晰|看清|看得清|可读|显示|出|的){0,5}(?:文字|文本|字)?(?:内容|信息)?"
    r"|none|n/?a|nothing"
    r"|(?:there is )?no (?:legible |visible |readable )?text(?: is)?(?: legible| visible| readable)?"
    r"(?: in the (?:picture|image))?",
    re.IGNORECASE,
)
_BLANK = " \t\r\n*_`\"'“”‘’。．.，,！!（）()【】[]「」"


def parse_answer(answer: str) -> str:
    """Return the description and the legible text in an answer, each on its own lines.

    Either may be missing, and they may come in any order. A text such as "无" means that there is none. If only the
    text is labelled, the words before it are the description; an answer without labels is returned as a whole.
    """
    answer = _without_quotes(_FENCE.sub("", _THOUGHT.sub("", answer)).strip())
    # The legible text may contain such labels itself: only the first label of each kind counts.
    first = {label.lastgroup: label for label in reversed(list(_LABEL.finditer(answer)))}
    labels = sorted(first.values(), key=lambda label: label.start())
    if not labels:
        return answer
    ends = [*(label.start() for label in labels[1:]), len(answer)]
    found = {label.lastgroup: answer[label.end() : end].strip() for label, end in zip(labels, ends, strict=True)}
    caption = found.get("caption", answer[: labels[0].start()].strip())
    text = found.get("text", "")
    return "\n".join(filter(None, [caption, "" if _NO_TEXT.fullmatch(text.strip(_BLANK)) else text]))


def _without_quotes(answer: str) -> str:
    closing = _QUOTES.get(answer[:1])
    return answer[1:-1].strip() if closing and len(answer) > 1 and answer.endswith(closing) else answer
