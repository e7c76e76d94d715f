"""Structured answers of models without function calls: objects are parsed from JSON in the text of an answer.

``parse_partial_json`` of LlamaIndex parses the answer so far of a stream. The complete answer has a stricter parser: it
finds JSON between other text and tolerates trailing commas, but refuses JSON that is cut or broken and answers that can
be read in more than one way, because the missing part would be guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Generator
from itertools import accumulate
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole
from llama_index.core.bridge.pydantic import BaseModel, ValidationError
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms import LLM
from llama_index.core.llms.utils import parse_partial_json
from llama_index.core.output_parsers import PydanticOutputParser
from llama_index.core.program.utils import create_flexible_model
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.types import PydanticProgramMode

from llama_index_mm_zhipu.text import one_line

_dispatcher = get_dispatcher(__name__)

_DECODER = json.JSONDecoder(strict=False)
# Matches whole strings as well, so that commas in them are kept.
_TRAILING_COMMA = re.compile(r'"(?:\\.|[^"\\])*"|(,)(?=\s*[}\]])', re.DOTALL)
_OPENING = re.compile(r'\{(?=\s*["}])|\[(?=\s*[\[{"\d\]tfn-])')

_MAX_QUOTED_CHARACTERS = 200


class UnreadableAnswerError(RuntimeError):
    """Raised when a model was asked for JSON and its answer has none of the expected form, or several that differ.

    Examples:
        >>> from pydantic import BaseModel
        >>> from llama_index_mm_zhipu.testing import MockGLMServer, Says
        >>> class Product(BaseModel):
        ...     name: str
        >>> with MockGLMServer() as server:
        ...     server.script(Says("我不知道"))
        ...     ZhipuMultiModal(api_base=server.url).as_structured_llm(Product).complete("这是什么？")
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.llm.structured_answers.UnreadableAnswerError: the model's answer cannot be read as
        Product: it holds no JSON object; it begins: '我不知道'
    """


class StructuredAnswers(LLM):
    """An LLM whose structured answers are parsed by ``AnswerParser`` if the model calls no functions."""

    def structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Answer a prompt with an object.

        Args:
            output_cls: Pydantic model of the object.
            prompt: The question.
            llm_kwargs: Further arguments of ``chat``.
            **prompt_args: Values of the prompt's variables.

        Raises:
            UnreadableAnswerError: No object can be parsed from the text of the answer.
        """
        if not self._answers_in_text():
            return super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        question = _JsonQuestion(self, output_cls, prompt, prompt_args)
        return question.parse(self.chat(question.messages, **(llm_kwargs or {})))

    async def astructured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Answer a prompt with an object as ``structured_predict`` does."""
        if not self._answers_in_text():
            return await super().astructured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        question = _JsonQuestion(self, output_cls, prompt, prompt_args)
        return question.parse(await self.achat(question.messages, **(llm_kwargs or {})))

    def stream_structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        """Yield the object so far with each piece of a stream, and finally the whole object.

        Arguments and errors are those of ``structured_predict``. Objects before the last one may lack fields, whose
        values are not validated.
        """
        if not self._answers_in_text():
            yield from super().stream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return
        question = _JsonQuestion(self, output_cls, prompt, prompt_args)
        response = None
        for response in self.stream_chat(question.messages, **(llm_kwargs or {})):
            if (partial := question.parse_partial(response)) is not None:
                yield partial
        yield question.parse(response, ends_stream=True)

    async def astream_structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        """Yield the object so far as ``stream_structured_predict`` does."""
        if not self._answers_in_text():
            return await super().astream_structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)

        async def objects() -> AsyncGenerator[Any, None]:
            question = _JsonQuestion(self, output_cls, prompt, prompt_args)
            response = None
            async for response in await self.astream_chat(question.messages, **(llm_kwargs or {})):
                if (partial := question.parse_partial(response)) is not None:
                    yield partial
            yield question.parse(response, ends_stream=True)

        return objects()

    def _answers_in_text(self) -> bool:
        """Return whether objects come in the text of an answer, and not as a function call or in another way."""
        if self.pydantic_program_mode == PydanticProgramMode.DEFAULT:
            return not self.metadata.is_function_calling_model
        return self.pydantic_program_mode == PydanticProgramMode.LLM


class _JsonQuestion:
    """A prompt that asks for JSON, and the parsing of its answer. Reports both as LlamaIndex's events.

    Attributes:
        messages: The prompt with the JSON schema of the object.
    """

    def __init__(
        self, llm: LLM, output_cls: type[Any], prompt: BasePromptTemplate, prompt_args: dict[str, Any]
    ) -> None:
        _dispatcher.event(
            LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args)
        )
        self._parser = AnswerParser(output_cls)
        self._partial_cls = create_flexible_model(output_cls)
        # A copy: LlamaIndex's own programs leave the parser in the caller's prompt, which then always asks for JSON.
        with_schema = prompt.model_copy(update={"output_parser": self._parser})
        self.messages: list[ChatMessage] = with_schema.format_messages(llm=llm, **prompt_args)
        if llm.system_prompt:
            self.messages = [ChatMessage(role=MessageRole.SYSTEM, content=llm.system_prompt), *self.messages]

    def parse(self, response: ChatResponse | None, *, ends_stream: bool = False) -> Any:
        """Return the object of a complete answer."""
        output = self._parser.parse(_text_of(response))
        if ends_stream:
            _dispatcher.event(LLMStructuredPredictInProgressEvent(output=output))
        _dispatcher.event(LLMStructuredPredictEndEvent(output=output))
        return output

    def parse_partial(self, response: ChatResponse) -> BaseModel | None:
        """Return the object of the answer so far, or None if it cannot be parsed yet."""
        text = _text_of(response)
        try:
            partial = self._partial_cls.model_validate(parse_partial_json(text[text.index("{") :]))
        except (ValueError, RecursionError):
            return None
        _dispatcher.event(LLMStructuredPredictInProgressEvent(output=partial))
        return partial


def _text_of(response: ChatResponse | None) -> str:
    return "" if response is None else response.message.content or ""


class AnswerParser(PydanticOutputParser[Any]):
    """Parses an object from JSON with other text, code fences or trailing commas, if there is one way to read it."""

    def parse(self, text: str) -> Any:
        """Return the object in an answer.

        Raises:
            UnreadableAnswerError: The answer holds no such object, or several that differ.
        """
        reason = "it holds no JSON object"
        found: list[BaseModel] = []
        try:
            values = json_values_in(text)
        except ValueError as error:
            reason, values = f"{error}; raise max_tokens if it is cut", []
        for value in values:
            objects, problem = self._objects_in(value)
            reason = problem or reason
            found += [each for each in objects if each not in found]
        if len(found) == 1:
            return found[0]
        if found:
            reason = f"it holds {len(found)} that differ"
        raise UnreadableAnswerError(
            f"the model's answer cannot be read as {self.output_cls.__name__}: {reason}; it begins: "
            f"{one_line(text.strip()[:_MAX_QUOTED_CHARACTERS])!r}"
        )

    def _objects_in(self, value: Any) -> tuple[list[BaseModel], str]:
        """Return the objects that a JSON value can be read as, and what is wrong with the value itself."""
        try:
            return [self._validated(value)], ""
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            problem = f"{'.'.join(map(str, first['loc'])) or 'its JSON'}: {first['msg']}"
        found: list[BaseModel] = []
        for item in value if isinstance(value, list) else []:
            # Models that are asked for one object also write an array with one object.
            objects, _ = self._objects_in(item) if isinstance(item, dict) else ([], "")
            found += objects
        return found, problem

    def _validated(self, value: Any) -> BaseModel:
        # From JSON, because pydantic then converts text to dates and arrays to tuples.
        validated: BaseModel = self.output_cls.model_validate_json(json.dumps(value))
        return validated


def json_values_in(text: str) -> list[Any]:
    """Return the outermost JSON objects and arrays of a text.

    Raises:
        ValueError: An object is cut or broken. An object inside it must not be taken for the whole.
    """
    values: list[Any] = []
    position = 0
    while found := _OPENING.search(text, position):
        try:
            value, position = decode_json(text, found.start())
        except ValueError:
            if found[0] == "{":
                raise ValueError("it holds JSON that is cut or broken") from None
            position = found.end()
        else:
            values.append(value)
    return values


def decode_json(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value that begins at ``start``, and the position after it. Trailing commas are ignored.

    Raises:
        ValueError: No value begins there, or it is cut, broken or nested too deeply.
    """
    try:
        return _DECODER.raw_decode(text, start)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    except ValueError:
        commas = [found.start(1) for found in _TRAILING_COMMA.finditer(text, start) if found[1]]
        if not commas:
            raise
    # Decode the text without the trailing commas, then add those before the end of the value to its position.
    starts, ends = [start, *(comma + 1 for comma in commas)], [*commas, len(text)]
    parts = [text[part_start:part_end] for part_start, part_end in zip(starts, ends, strict=True)]
    value, length = _DECODER.raw_decode("".join(parts))
    return value, start + length + sum(before < length for before in accumulate(map(len, parts[:-1])))
