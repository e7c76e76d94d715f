"""Parameters of the API: their types, limits and descriptions, of which the OpenAPI document is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llama_index_mm_zhipu.arguments import require_known
from llama_index_mm_zhipu.server.errors import bad_request
from llama_index_mm_zhipu.service import FILTER_SYNTAX

MAX_WORDS = 4_000
"""Characters of words and questions."""

MAX_TOP_K = 100
"""How many images a search returns at most."""

MAX_SOURCES = 20
"""How many images a question is answered from at most."""

_MAX_ID = 4_000
_MAX_FILTERS = 20
_MAX_SHOWN = 60

Words = Annotated[str, Field(max_length=MAX_WORDS)]
NodeId = Annotated[str, Field(min_length=1, max_length=_MAX_ID)]
Filters = Annotated[
    list[Words],
    Field(max_length=_MAX_FILTERS, description=f"Metadata filter that every result meets; repeatable. {FILTER_SYNTAX}"),
]

ParametersT = TypeVar("ParametersT", bound="Parameters")


class Parameters(BaseModel):
    """Parameters of an endpoint; unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def parse(cls: type[ParametersT], fields: Mapping[str, Sequence[str]]) -> ParametersT:
        """Return the parameters of a query or a form, whose names may be repeated.

        Args:
            fields: The values by name.

        Raises:
            ServerError: A name is unknown or repeated, or a value is not allowed.
        """
        try:
            require_known("this request", fields, cls.model_fields)
        except TypeError as error:
            raise bad_request(str(error)) from None
        values: dict[str, Any] = {}
        for name, given in fields.items():
            is_list = cls.model_fields[name].annotation == list[Words]
            if not is_list and len(given) > 1:
                raise bad_request(f"{name} is given {len(given)} times; give it once")
            values[name] = list(given) if is_list else given[0]
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            name = ".".join(map(str, first["loc"]))
            raise bad_request(f"{name} is {str(first['input'])[:_MAX_SHOWN]!r}: {first['msg']}") from None


class SearchParameters(Parameters):
    """Parameters of a search."""

    words: Words = Field("", description="Words to search for; may be empty with an image or an id.")
    like: NodeId | None = Field(None, description="Id of an image of the index to search by.")
    filter: Filters = Field(default=[])
    similarity_top_k: int = Field(20, ge=1, le=MAX_TOP_K, description="Number of images; texts are found as many.")
    cutoff: float | None = Field(None, ge=-1, le=1, description="Leaves out results with a lower cosine similarity.")
    mode: str | None = Field(
        None, max_length=_MAX_SHOWN, description="default, hybrid, text_search or mmr; chosen by the index by default."
    )


class AskParameters(Parameters):
    """Parameters of a question."""

    question: Words = Field("", description="The question, in Chinese or English.")
    like: NodeId | None = Field(None, description="Id of an image of the index that the question is about.")
    filter: Filters = Field(default=[])
    similarity_top_k: int = Field(3, ge=1, le=MAX_SOURCES, description="Number of images that the model gets.")
    chat: str | None = Field(
        None, max_length=_MAX_SHOWN, description="The conversation that the question belongs to; a new one by default."
    )
