"""``QueryRewriter``: an LLM adds search words to a question, so that full text finds pages that use other words."""

from __future__ import annotations

import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.llms.utils import LLMType
from llama_index.core.schema import QueryBundle

from llama_index_mm_zhipu.arguments import explicit_arguments
from llama_index_mm_zhipu.llm.errors import ACCOUNT_ERRORS
from llama_index_mm_zhipu.llm.llm import llm_or_default
from llama_index_mm_zhipu.llm.structured_answers import decode_json
from llama_index_mm_zhipu.prompts.templates import REWRITE_PROMPTS
from llama_index_mm_zhipu.prompts.wording import quoted, without_hidden_characters, wording_of
from llama_index_mm_zhipu.query.question import Question, as_bundle, has_words
from llama_index_mm_zhipu.query.retriever import ImageRetriever
from llama_index_mm_zhipu.text import CJK_RANGES, one_line
from llama_index_mm_zhipu.types import Language

logger = logging.getLogger(__name__)

SEARCH_WORDS = "search_words"
"""Key of ``response.metadata``: the words that were searched for besides the question."""

MAX_WORDS = 12
"""How many search words are taken from an answer."""

MAX_WORD_LENGTH = 20
"""How many characters a search word may have."""

_CACHED_QUESTIONS = 256


class Rewritten(NamedTuple):
    """A question to search by.

    Attributes:
        query: The question. Its ``query_str``, which full text searches, ends with the search words; the vector is that
            of the question alone.
        words: The search words; empty if the question is searched as it is.

    Examples:
        >>> from llama_index_mm_zhipu.query import QueryRewriter
        >>> from llama_index_mm_zhipu.testing import MockGLMServer
        >>> with MockGLMServer(synonyms={"没气": ["胎压", "充气"]}) as server:
        ...     query, words = QueryRewriter(ZhipuMultiModal(api_base=server.url)).rewrite("轮胎没气了")
        >>> query.embedding_strs, words
        (['轮胎没气了'], ['胎压', '充气'])
    """

    query: QueryBundle
    words: list[str]


class QueryRewriter:
    """Has an LLM write search words for a question: synonyms and technical terms that the pages may use.

    Full text search then looks for the words of the question and for these words. Vectors, prompts and citations are
    those of the question alone. The LLM sees the words of the question, quoted as data, and none of its images.

    Search words are cached in memory by question, prompt and model, the last 256 of them; threads may share a rewriter.
    If the request fails, or the answer has no words that can be used, a warning is logged and the question is searched
    as it is; the next search asks again. A wrong key or an empty account of ``ZhipuMultiModal`` is an error.

    Args:
        llm: A chat LLM; by default ``Settings.llm`` if one was set, else ``ZhipuMultiModal()``.
        language: ``"zh"`` or ``"en"``, the language of the default prompt and of the words that it asks for. Choose the
            language of the pages, which may differ from that of the questions.
        prompt: Prompt with ``{question}`` in place of the package's. The answer may be a list in any form.

    Raises:
        ValueError: The language is not known, or the prompt has no ``{question}``.

    Examples:
        >>> from llama_index_mm_zhipu.query import QueryRewriter
        >>> from llama_index_mm_zhipu.testing import MockGLMServer
        >>> with MockGLMServer(synonyms={"没气": ["胎压", "充气"]}) as server:
        ...     rewritten = QueryRewriter(ZhipuMultiModal(api_base=server.url)).rewrite("轮胎没气了")
        >>> rewritten.words, rewritten.query.query_str.split()
        (['胎压', '充气'], ['轮胎没气了', '胎压', '充气'])
    """

    @explicit_arguments
    def __init__(self, llm: LLMType | None = None, *, language: Language = "zh", prompt: str | None = None) -> None:
        self._wording = wording_of(language)
        self._prompt = prompt or REWRITE_PROMPTS[language]
        if "{question}" not in self._prompt:
            raise ValueError(f"prompt is '{one_line(self._prompt)}'; it must say where the question goes: {{question}}")
        self._llm = llm_or_default(llm)
        self._cached: OrderedDict[tuple[str, str, str], list[str]] = OrderedDict()
        self._lock = threading.Lock()

    def rewrite(self, question: Question) -> Rewritten:
        """Return a question with search words.

        Args:
            question: As in ``ImageRetriever.retrieve``. A question without words is returned as it is.

        Returns:
            The question to search by, and the search words.

        Raises:
            GLMError: The key is wrong or the account is empty.

        Examples:
            >>> from llama_index_mm_zhipu.query import QueryRewriter
            >>> from llama_index_mm_zhipu.testing import MockGLMServer
            >>> with MockGLMServer(synonyms={"没气": ["胎压"]}) as server:
            ...     QueryRewriter(ZhipuMultiModal(api_base=server.url)).rewrite("轮胎没气了").words
            ['胎压']
        """
        bundle = as_bundle(question)
        words = self._known_words(bundle)
        if words is None:
            try:
                words = self._read(bundle, self._llm.chat(self._messages(bundle)))
            # Other LLMs raise errors of their own classes.
            except Exception as error:
                words = self._without_answer(bundle, error)
        return _with_words(bundle, words)

    async def arewrite(self, question: Question) -> Rewritten:
        """As ``rewrite``."""
        bundle = as_bundle(question)
        words = self._known_words(bundle)
        if words is None:
            try:
                words = self._read(bundle, await self._llm.achat(self._messages(bundle)))
            except Exception as error:
                words = self._without_answer(bundle, error)
        return _with_words(bundle, words)

    def _messages(self, question: QueryBundle) -> list[ChatMessage]:
        asked = self._prompt.replace("{question}", quoted(question.query_str, self._wording))
        return [ChatMessage(role=MessageRole.USER, content=asked)]

    def _known_words(self, question: QueryBundle) -> list[str] | None:
        """Return the search words of a question if no LLM has to be asked for them."""
        if not has_words(question.query_str):
            return []
        with self._lock:
            words = self._cached.get(self._key(question))
            if words is not None:
                self._cached.move_to_end(self._key(question))
        return words

    def _read(self, question: QueryBundle, response: ChatResponse) -> list[str]:
        """Return the search words in an answer, and cache them."""
        answer = response.message.content or ""
        words = search_words_in(answer)
        if not words:
            _warn(question, f"the answer has no search words; it begins: '{one_line(answer[:200])}'")
            return []
        with self._lock:
            self._cached[self._key(question)] = words
            if len(self._cached) > _CACHED_QUESTIONS:
                self._cached.popitem(last=False)
        return words

    def _without_answer(self, question: QueryBundle, error: Exception) -> list[str]:
        """Return no search words after an error, unless the request for the answer would fail as well."""
        if isinstance(error, ACCOUNT_ERRORS):
            raise error
        _warn(question, f"the request for search words failed with {type(error).__name__}: {one_line(str(error))}")
        return []

    def _key(self, question: QueryBundle) -> tuple[str, str, str]:
        return question.query_str, self._prompt, self._llm.metadata.model_name


def rewriter_of(
    query_rewrite: bool | QueryRewriter, retriever: BaseRetriever, llm: LLMType, language: Language
) -> QueryRewriter | None:
    """Return the rewriter of an engine; None if questions are searched as they are.

    Args:
        query_rewrite: Argument of the engine: whether to rewrite, or with which rewriter.
        retriever: The retriever of the engine.
        llm: The LLM of the engine.
        language: The language of the engine.

    Raises:
        TypeError: ``query_rewrite`` is neither.
        ValueError: The retriever does not search full text.
    """
    if query_rewrite is False:
        return None
    if query_rewrite is not True and not isinstance(query_rewrite, QueryRewriter):
        raise TypeError(f"query_rewrite is {query_rewrite!r:.60}; give True, False or a QueryRewriter")
    if isinstance(retriever, ImageRetriever) and not retriever.searches_full_text:
        raise ValueError(
            "query_rewrite adds words to full text search, which the retriever does not use; give "
            "vector_store_query_mode='hybrid' or 'text_search'"
        )
    return QueryRewriter(llm, language=language) if query_rewrite is True else query_rewrite


def _with_words(question: QueryBundle, words: list[str]) -> Rewritten:
    if not words:
        return Rewritten(question, words)
    # Retrievers of LlamaIndex embed ``embedding_strs`` and search texts for ``query_str``. A line break between words
    # keeps full text from taking the last character of one and the first of the next for a pair.
    searched = "\n".join([question.query_str, *words])
    return Rewritten(replace(question, query_str=searched, custom_embedding_strs=question.embedding_strs), list(words))


def _warn(question: QueryBundle, reason: str) -> None:
    logger.warning("the question '%s' is searched as it is: %s", one_line(question.query_str), reason)


# The words in an answer. All repetitions are bounded, as in captions: an answer may have any length and form.

_MAX_ANSWER_LENGTH = 2_000
_LABEL = re.compile(
    r"(?:^|[。；;])[^。；;\n]{0,40}?"
    r"(?:搜索词|检索词|关键词|关键字|同义词|术语|search (?:words|terms|queries)|keywords|synonyms|terms)"
    r"[^:：\n、，,]{0,12}[:：]",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = re.compile(r"^```\w{0,20}$", re.MULTILINE)
_SEPARATOR = re.compile(
    r"(?<!\w)\d{1,2}[)）]|[\n\t、，,;；|。/\"“”「」『』《》（）()\[\]【】{}]|(?<!\w)[·•・]|(?<=\s)[-–—*](?=\s)"
)
_SPACE_BESIDE_CJK = re.compile(rf"(?<=[{CJK_RANGES}])\s|\s(?=[{CJK_RANGES}])")
_NUMBER = re.compile(r"^\s{0,9}\d{1,2}[.．:：](?!\d)")
_AROUND = " \r'`*_#<>-–—•·‘’.．!！?？:：…①②③④⑤⑥⑦⑧⑨⑩"
_NOTHING = frozenset({"没有", "none", "null", "nothing"})


def search_words_in(answer: str) -> list[str]:
    """Return the search words in an answer: a list in lines, with separators, numbers, quotes or labels, or JSON.

    Args:
        answer: What the LLM wrote; a thinking block before it is ignored.

    Returns:
        At most ``MAX_WORDS`` different words of 2 to ``MAX_WORD_LENGTH`` characters, in their order; empty if there are
        none. Longer pieces are no search words but sentences; those of several words are split.
    """
    text = without_hidden_characters(_without_thoughts(answer)[:_MAX_ANSWER_LENGTH])
    listed = _strings_of_json(text)
    text = "\n".join(listed) if listed is not None else _LABEL.sub("\n", _FENCE.sub("", text))
    pieces = (piece for part in _SEPARATOR.split(text) for piece in _SPACE_BESIDE_CJK.split(part))
    words = [word for piece in pieces for word in _short_enough(_NUMBER.sub("", piece).strip(_AROUND))]
    usable = (word for word in words if len(word) > 1 and _is_word(word))
    return list({word.lower(): word for word in reversed([*usable])}.values())[::-1][:MAX_WORDS]


def _without_thoughts(answer: str) -> str:
    # The opening tag is missing where the prompt of a model ends with it, the closing one where the answer was cut.
    return answer.rpartition("</think>")[2].partition("<think>")[0]


def _strings_of_json(text: str) -> list[str] | None:
    """Return the strings of the first JSON list or object in a text; None if there is none that can be decoded."""
    position = min((at for bracket in "[{" if (at := text.find(bracket)) >= 0), default=-1)
    if position < 0:
        return None
    try:
        value, _ = decode_json(text, position)
    except ValueError:
        return None
    return list(_strings_in(value)) or None


def _strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings_in(item)


def _short_enough(piece: str) -> list[str]:
    parts = [piece] if len(piece) <= MAX_WORD_LENGTH else piece.split()
    return [part for part in parts if len(part) <= MAX_WORD_LENGTH]


def _is_word(word: str) -> bool:
    return any(map(str.isalpha, word)) and word.lower() not in _NOTHING
