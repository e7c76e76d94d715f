"""``ImageCaptioner``: captions and legible text for images that have none, written by a multimodal LLM."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, LLMMetadata, MessageRole, TextBlock
from llama_index.core.bridge.pydantic import Field, PrivateAttr, SerializeAsAny
from llama_index.core.ingestion.pipeline import remove_unstable_values
from llama_index.core.llms import LLM
from llama_index.core.schema import BaseNode, TransformComponent
from llama_index.core.utils import get_cache_dir
from tqdm.auto import tqdm

from llama_index_mm_zhipu.arguments import KnownFields
from llama_index_mm_zhipu.concurrency import run_on_own_loop, together
from llama_index_mm_zhipu.embedding.nodes import list_failures
from llama_index_mm_zhipu.images import caption_of, describe, has_image, read_bytes, resolve_source, with_caption
from llama_index_mm_zhipu.llm.errors import EmptyAnswerError, GLMAuthenticationError, GLMQuotaError
from llama_index_mm_zhipu.llm.images import image_block
from llama_index_mm_zhipu.llm.llm import llm_or_default
from llama_index_mm_zhipu.prompts.wording import wording_of
from llama_index_mm_zhipu.shared_folders import make_folder
from llama_index_mm_zhipu.text import one_line, replace_lone_surrogates
from llama_index_mm_zhipu.types import Language, OnError

logger = logging.getLogger(__name__)

# Nothing here repeats without bound next to what matches the same: models fill answers with line breaks.
_DRESS = r"[*#>_`\-\d.、）)（(【\[\"“'「一二 \t]{0,8}"
_OF_WHAT = r"(?:这张|该|此)?(?:图片|图像|照片|图中|图)?的?(?:内容)?的?"
_LABEL = re.compile(
    rf"(?:^|(?<=[\n。；;]))[ \t]{{0,8}}{_DRESS}{_OF_WHAT}"
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
    r"(?: in the (?:image|image))?",
    re.IGNORECASE,
)
_BLANK = " \t\r\n*_`\"'“”‘’。．.，,！!（）()【】[]「」"


def caption_in(answer: str) -> str:
    """Return caption and legible text of an answer, each on lines of their own.

    Either may be missing, and they may come in any order; "无" is no text. Words before the text of an image are its
    caption where nothing is called so, and an answer without labels is taken whole.
    """
    answer = _unquoted(_FENCE.sub("", _THOUGHT.sub("", answer)).strip())
    # The text in an image may hold such labels itself: the first of each kind counts.
    first = {label.lastgroup: label for label in reversed(list(_LABEL.finditer(answer)))}
    labels = sorted(first.values(), key=lambda label: label.start())
    if not labels:
        return answer
    ends = [*(label.start() for label in labels[1:]), len(answer)]
    found = {label.lastgroup: answer[label.end() : end].strip() for label, end in zip(labels, ends, strict=True)}
    caption = found.get("caption", answer[: labels[0].start()].strip())
    text = found.get("text", "")
    return "\n".join(filter(None, [caption, "" if _NO_TEXT.fullmatch(text.strip(_BLANK)) else text]))


def _unquoted(answer: str) -> str:
    closing = _QUOTES.get(answer[:1])
    return answer[1:-1].strip() if closing and len(answer) > 1 and answer.endswith(closing) else answer


_WAIT_SECONDS = 30.0


class CaptionCacheError(OSError):
    """The file with the captions cannot be read or written."""


class CaptionCache:
    """A SQLite file that threads and processes may share; what was put is on disk.

    Args:
        path: The file, made if missing; None takes ``llama_index_mm_zhipu/captions.sqlite3`` in LlamaIndex's cache
            folder, which ``LLAMA_INDEX_CACHE_DIR`` names.

    Raises:
        CaptionCacheError: The file cannot be written, or is something else.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        default = Path(get_cache_dir()) / "llama_index_mm_zhipu" / "captions.sqlite3"
        self.path = Path(path).expanduser() if path is not None else default
        make_folder(self.path.parent)
        with self._connection() as connection:
            # A file that cannot be written is told before anything is paid for.
            connection.execute("begin immediate")
            connection.execute("create table if not exists captions (key text primary key, caption text not null)")

    def get(self, key: str) -> str | None:
        """Return what was put under a key, or None."""
        with self._connection() as connection:
            row = connection.execute("select caption from captions where key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def put(self, key: str, caption: str) -> None:
        """Keep a caption."""
        with self._connection() as connection:
            connection.execute("insert or replace into captions values (?, ?)", (key, caption))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS)) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            told = f"the cache of captions at {self.path} cannot be used: {error}; give another path"
            raise CaptionCacheError(told) from None


CAPTION_PROMPTS: dict[Language, str] = {
    "zh": (
        "请看图，严格按下面两行的格式回答，不要写别的。\n"
        "说明：用一两句话说出图里是什么、在做什么，写出型号、名称等关键信息\n"
        "文字：原样抄写图里看得清的文字，没有就写“无”"
    ),
    "en": (
        "Look at the picture and answer in exactly these two lines, nothing else.\n"
        "Caption: in one or two sentences what it shows, with names, models and other keywords\n"
        'Text: the legible text in it, word for word, or "none"'
    ),
}
"""What is asked of each image."""

# All images would fail for these.
_HOPELESS = (GLMAuthenticationError, GLMQuotaError, CaptionCacheError)


class ImageCaptioner(KnownFields, TransformComponent):
    """An ingestion transformation that gives images without captions one: caption and legible text, as their text.

    Place it before the embedding: the caption then goes into the vector as far as ``caption_weight`` says, into full
    text, and into prompts. Captions are kept on disk, by the content of the image, model and prompt, as soon as they
    come: a run that was interrupted goes on where it was, and equal images are asked about once. Answers that were
    cut at ``max_tokens`` are failures.

    Args:
        llm: A multimodal chat LLM; by default ``Settings.llm`` if one was set, else ``ZhipuMultiModal()``.
        language: ``"zh"`` or ``"en"``, of the captions.
        prompt: What to ask; by default ``CAPTION_PROMPTS[language]``. An answer in another form is taken whole.
        num_workers: Requests at a time; ``ZhipuMultiModal(max_concurrency=…)`` bounds them too.
        overwrite: Whether to replace captions that images have.
        on_error: ``"skip"`` images that fail, which stay without caption and are listed in ``failures``, or
            ``"raise"`` at the first. A wrong key or an empty account is always an error. In a pipeline with a docstore
            take ``"raise"``: the docstore would hold skipped images for done.
        cache_path: SQLite file with the captions; by default ``llama_index_mm_zhipu/captions.sqlite3`` in LlamaIndex's
            cache folder.
        show_progress: Whether to show a progress bar.

    Examples:
        >>> from llama_index_mm_zhipu import ZhipuMultiModal
        >>> from llama_index_mm_zhipu.ingestion import ImageCaptioner
        >>> captioner = ImageCaptioner(llm=ZhipuMultiModal(api_key="id.secret"), num_workers=4)
        >>> captioner.on_error
        'skip'
    """

    llm: SerializeAsAny[LLM] = Field(description="Writes the captions.")
    language: Language = Field(default="zh", description="Of the captions.")
    prompt: str | None = Field(default=None, description="What to ask of each image.")
    num_workers: int = Field(default=10, gt=0, description="Requests at a time.")
    overwrite: bool = Field(default=False, description="Whether to replace captions.")
    on_error: OnError = Field(default="skip", description="Images that fail: skip or raise.")
    cache_path: str | None = Field(default=None, description="SQLite file with the captions.")
    show_progress: bool = Field(default=False, description="Whether to show a progress bar.")

    _failures: dict[str, str] = PrivateAttr(default_factory=dict)

    def __init__(self, llm: LLM | None = None, cache_path: str | Path | None = None, **kwargs: Any) -> None:
        self._require_known_fields(kwargs)
        super().__init__(
            llm=llm_or_default(llm), cache_path=str(cache_path) if cache_path is not None else None, **kwargs
        )

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this component."""
        return "ImageCaptioner"

    @property
    def failures(self) -> dict[str, str]:
        """Reason by node id of the images that got no caption in the last run of this object."""
        return self._failures

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """Caption the images among nodes.

        Returns:
            All nodes in order, captioned ones as copies.

        Raises:
            GLMError: The key is wrong or the account empty; or, with ``on_error="raise"``, an image failed.
            ImageError: An image cannot be read, with ``on_error="raise"``.
            CaptionCacheError: The cache cannot be used.
        """
        return run_on_own_loop(self.acall(nodes, **kwargs))

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[BaseNode]:
        """As ``__call__``."""
        waiting = [
            place for place, node in enumerate(nodes) if has_image(node) and (self.overwrite or not caption_of(node))
        ]
        if not waiting:
            self._failures = {}
            return list(nodes)
        work = _Run(self, nodes, await asyncio.to_thread(CaptionCache, self.cache_path))
        disable = not kwargs.get("show_progress", self.show_progress)
        with tqdm(total=len(waiting), desc="Captioning images", unit="image", disable=disable) as bar:
            await work.work_through(waiting, self.num_workers, bar)
        self._failures = work.failures
        if work.failures:
            listed = [(one_line(node_id), reason) for node_id, reason in work.failures.items()]
            logger.warning("%s", list_failures(listed, len(waiting)))
        return work.nodes

    def _chosen_prompt(self) -> str:
        wording_of(self.language)
        return self.prompt or CAPTION_PROMPTS[self.language]


class _Run:
    """One run over nodes: so many workers take the next image each, until none is left."""

    def __init__(self, captioner: ImageCaptioner, nodes: Sequence[BaseNode], cache: CaptionCache) -> None:
        self.nodes = list(nodes)
        self.failures: dict[str, str] = {}
        self._captioner = captioner
        self._cache = cache
        self._prompt = captioner._chosen_prompt()
        self._asking: dict[str, asyncio.Lock] = {}

    async def work_through(self, places: Sequence[int], num_workers: int, bar: tqdm[None]) -> None:
        """Caption the nodes at these places."""
        left = iter(places)
        await together(self._work(left, bar) for _ in range(min(num_workers, len(places))))

    async def _work(self, left: Iterator[int], bar: tqdm[None]) -> None:
        for place in left:
            node = self.nodes[place]
            try:
                self.nodes[place] = with_caption(node, await self._caption(node))
            except _HOPELESS:
                raise
            # LLMs of other makers raise errors of their own.
            except Exception as error:
                if self._captioner.on_error == "raise":
                    raise
                self.failures[node.node_id] = f"{type(error).__name__}: {one_line(str(error))}"
            bar.update()

    async def _caption(self, node: BaseNode) -> str:
        key = await asyncio.to_thread(self._key, node)
        # An equal image waits, and then finds the caption.
        async with self._asking.setdefault(key, asyncio.Lock()):
            if (cached := await asyncio.to_thread(self._cache.get, key)) is not None:
                return cached
            caption = await self._written(node)
            await asyncio.to_thread(self._cache.put, key, caption)
            return caption

    async def _written(self, node: BaseNode) -> str:
        blocks = [await asyncio.to_thread(image_block, node), TextBlock(text=self._prompt)]
        answer = await self._captioner.llm.achat([ChatMessage(role=MessageRole.USER, blocks=blocks)])
        if answer.additional_kwargs.get("finish_reason") == "length":
            raise ValueError(f"the answer about {describe(node)} was cut; raise max_tokens of the LLM")
        caption = caption_in(replace_lone_surrogates(answer.message.content or ""))
        if not caption:
            raise EmptyAnswerError(f"the model answered nothing about {describe(node)}; run again to ask once more")
        return caption

    def _key(self, node: BaseNode) -> str:
        """Name what a caption depends on: the image's content (or address), the model and the prompt."""
        source = resolve_source(node)
        image = source.encode() if isinstance(source, str) else read_bytes(source)
        parts = [hashlib.sha256(image).hexdigest(), _name_of(self._captioner.llm), self._prompt]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _name_of(llm: LLM) -> str:
    """Name a model: many LLMs have no name of their own, and differ in their settings."""
    name = llm.metadata.model_name
    settings = "" if name != LLMMetadata().model_name else remove_unstable_values(str(llm.to_dict()))
    return f"{llm.class_name()} {name} {settings}"
