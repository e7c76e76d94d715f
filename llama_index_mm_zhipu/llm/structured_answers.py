"""Structured answers of models without function calls: JSON is read from what a model wrote around it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Generator
from itertools import accumulate
from typing import Any, cast

from llama_index.core.base.llms.types import ChatResponse
from llama_index.core.bridge.pydantic import BaseModel, ValidationError
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.llm import LLMStructuredPredictEndEvent, LLMStructuredPredictStartEvent
from llama_index.core.llms import LLM
from llama_index.core.llms.utils import parse_partial_json
from llama_index.core.output_parsers import PydanticOutputParser
from llama_index.core.program import LLMTextCompletionProgram
from llama_index.core.program.utils import create_flexible_model
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.types import PydanticProgramMode

from llama_index_mm_zhipu.text import one_line

_dispatcher = get_dispatcher(__name__)

_DECODER = json.JSONDecoder(strict=False)
# Strings are matched so that commas in them stay.
_TRAILING_COMMA = re.compile(r'"(?:\\.|[^"\\])*"|(,)(?=\s*[}\]])', re.DOTALL)
_OPENING = re.compile(r'\{(?=\s*["}])|\[(?=\s*[\[{"\d\]tfn-])')

_BEGINNING = 200


class UnreadableAnswerError(RuntimeError):
    """A model was asked for JSON, and its answer cannot be read as what was asked for, or in more than one way."""


def decode_json(text: str, place: int) -> tuple[Any, int]:
    """Return the JSON value that begins at a place, and where it ends; commas before a closing bracket are ignored.

    Raises:
        ValueError: None begins there, or it is cut, broken or nested too deep.
    """
    try:
        return _DECODER.raw_decode(text, place)
    except RecursionError as error:
        raise ValueError(str(error)) from None
    except ValueError:
        commas = [found.start(1) for found in _TRAILING_COMMA.finditer(text, place) if found[1]]
        if not commas:
            raise
    starts, ends = [place, *(comma + 1 for comma in commas)], [*commas, len(text)]
    parts = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    value, end = _DECODER.raw_decode("".join(parts))
    return value, place + end + sum(length < end for length in accumulate(map(len, parts[:-1])))


def json_values_in(text: str) -> list[Any]:
    """Return the JSON objects and arrays of a text, without those inside of others.

    Raises:
        ValueError: An object is cut or broken: one inside of it must not be taken for the whole.
    """
    values: list[Any] = []
    place = 0
    while found := _OPENING.search(text, place):
        try:
            value, place = decode_json(text, found.start())
        except ValueError:
            if found[0] == "{":
                raise ValueError("it holds JSON that is cut or broken") from None
            place = found.end()
        else:
            values.append(value)
    return values


class AnswerParser(PydanticOutputParser[Any]):
    """Reads an answer with words, fences or trailing commas around or in its JSON, if there is one way to read it."""

    def parse(self, text: str) -> Any:
        """Return the object that an answer holds.

        Raises:
            UnreadableAnswerError: It holds none, or several that differ.
        """
        reason = "it holds no JSON object"
        read: list[BaseModel] = []
        try:
            values = json_values_in(text)
        except ValueError as error:
            reason, values = f"{error}; raise max_tokens if it is cut", []
        for value in values:
            objects, problem = self._objects_of(value)
            reason = problem or reason
            read += [each for each in objects if each not in read]
        if len(read) == 1:
            return read[0]
        if read:
            reason = f"it holds {len(read)} that differ"
        raise UnreadableAnswerError(
            f"the model's answer cannot be read as {self.output_cls.__name__}: {reason}; it begins: "
            f"{one_line(text.strip()[:_BEGINNING])!r}"
        )

    def _objects_of(self, value: Any) -> tuple[list[BaseModel], str]:
        """Return what a JSON value can be read as, and what is wrong with it if it cannot."""
        try:
            return [self._validated(value)], ""
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            problem = f"{'.'.join(map(str, first['loc'])) or 'its JSON'}: {first['msg']}"
        read: list[BaseModel] = []
        for item in value if isinstance(value, list) else []:
            # Models put the one object that they were asked for into an array.
            objects, _ = self._objects_of(item) if isinstance(item, dict) else ([], "")
            read += objects
        return read, problem

    def _validated(self, value: Any) -> BaseModel:
        # In pydantic's mode for JSON, in which text may be a date or an array a tuple.
        validated: BaseModel = self.output_cls.model_validate_json(json.dumps(value))
        return validated


class _AnswerProgram(LLMTextCompletionProgram[Any]):
    """Asks for JSON in text; streams hold what can be read so far, and at their end the whole answer."""

    def stream_call(
        self, *args: Any, llm_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> Generator[Any, None, None]:
        text = ""
        for response in self._llm.stream_chat(self._messages(kwargs), **(llm_kwargs or {})):
            text = response.message.content or ""
            if (partial := self._partial(text)) is not None:
                yield partial
        yield self._output_parser.parse(text)

    async def astream_call(
        self, *args: Any, llm_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> AsyncGenerator[Any, None]:
        responses: AsyncGenerator[ChatResponse, None] = await self._llm.astream_chat(
            self._messages(kwargs), **(llm_kwargs or {})
        )

        async def objects() -> AsyncGenerator[Any, None]:
            text = ""
            async for response in responses:
                text = response.message.content or ""
                if (partial := self._partial(text)) is not None:
                    yield partial
            yield self._output_parser.parse(text)

        return objects()

    def _messages(self, values: dict[str, Any]) -> Any:
        return self._llm._extend_messages(self._prompt.format_messages(llm=self._llm, **values))

    def _partial(self, text: str) -> BaseModel | None:
        try:
            fields = parse_partial_json(text[text.index("{") :])
            return create_flexible_model(self._output_cls).model_validate(fields)
        except ValueError:
            return None


class StructuredAnswers(LLM):
    """An LLM whose structured answers are read by ``AnswerParser``, unless they come as a function call."""

    def structured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """Answer with an object of a class.

        Args:
            output_cls: A pydantic model.
            prompt: The question.
            llm_kwargs: Further arguments of ``chat``.
            **prompt_args: Values of the prompt's variables.

        Raises:
            UnreadableAnswerError: The model answered in text, in which no such object can be read.
        """
        program = self._answer_program(output_cls, prompt)
        if program is None:
            return super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        _report_start(output_cls, prompt, prompt_args)
        return _reported(program(llm_kwargs=llm_kwargs, **prompt_args))

    async def astructured_predict(
        self,
        output_cls: type[Any],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        """As ``structured_predict``."""
        program = self._answer_program(output_cls, prompt)
        if program is None:
            return await super().astructured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
        _report_start(output_cls, prompt, prompt_args)
        return _reported(await program.acall(llm_kwargs=llm_kwargs, **prompt_args))

    # What stream_structured_predict and astream_structured_predict of LlamaIndex call.

    def _structured_stream_call(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        program = self._answer_program(output_cls, prompt)
        if program is None:
            return super()._structured_stream_call(output_cls, prompt, llm_kwargs, **prompt_args)
        return program.stream_call(llm_kwargs=llm_kwargs, **prompt_args)

    async def _structured_astream_call(
        self,
        output_cls: type[Any],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Any:
        program = self._answer_program(output_cls, prompt)
        if program is None:
            return await super()._structured_astream_call(output_cls, prompt, llm_kwargs, **prompt_args)
        return await program.astream_call(llm_kwargs=llm_kwargs, **prompt_args)

    def _answer_program(self, output_cls: type[Any], prompt: BasePromptTemplate) -> _AnswerProgram | None:
        """Return what asks for JSON in text; None where the model calls a function instead."""
        mode = self.pydantic_program_mode
        calls_functions = mode == PydanticProgramMode.DEFAULT and self.metadata.is_function_calling_model
        if calls_functions or mode not in (PydanticProgramMode.DEFAULT, PydanticProgramMode.LLM):
            return None
        program = _AnswerProgram.from_defaults(
            output_parser=AnswerParser(output_cls), output_cls=output_cls, prompt=prompt, llm=self
        )
        return cast("_AnswerProgram", program)


def _report_start(output_cls: type[Any], prompt: BasePromptTemplate, prompt_args: dict[str, Any]) -> None:
    _dispatcher.event(LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=prompt_args))


def _reported(answer: Any) -> Any:
    _dispatcher.event(LLMStructuredPredictEndEvent(output=answer))
    return answer
