"""Which pictures an answer cites."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from llama_index.core.schema import BaseNode, ImageNode, NodeWithScore

from llama_index_mm_zhipu.wording import Language, wording_of

logger = logging.getLogger(__name__)

CITATIONS = "citations"
"""Key of ``response.metadata``: the node of each picture that the answer cites, by name (``图1``)."""

UNKNOWN_CITATIONS = "unknown_citations"
"""Key of ``response.metadata``: names that the answer cites and that no picture has."""

_LONGEST_RANGE = 50

# Not the number of a figure inside a picture ("图3.5", "图2-1") or of things ("图1和2个苹果").
_NUMBER = r"(\d{1,4})(?!\d|[.．]\d|\s*[个只张条辆位件块片元年月日岁%％])"
_FIRST = re.compile(r"(?:图片?|[Pp]ictures?)\s*" + _NUMBER)
_NEXT = re.compile(r"\s*(、|，|,|和|与|及|以及|and|&|至|到|~|～|–|—|-)\s*(?:图片?|[Pp]ictures?)?\s*" + _NUMBER)
_RANGE = ("至", "到", "~", "～", "–", "—", "-")


class Citations(NamedTuple):
    """What an answer cites.

    Attributes:
        nodes: By name, in the order of first mention.
        unknown: Names that no picture has.
    """

    nodes: dict[str, BaseNode]
    unknown: list[str]

    def as_metadata(self) -> dict[str, Any]:
        """Return what goes into ``response.metadata``; what is unknown is logged, too."""
        if self.unknown:
            logger.warning("the answer cites %s, which no picture is called", ", ".join(self.unknown))
        return {CITATIONS: self.nodes, UNKNOWN_CITATIONS: self.unknown}


def citations_in(answer: str, sources: Sequence[NodeWithScore], language: Language = "zh") -> Citations:
    """Find the pictures that an answer cites.

    Understood are ``图1``, ``图 1``, ``图片1``, ``图１``, ``Picture 1``, lists (``图1、2和3``) and ranges (``图1至3``).
    Numbers with a part after them (``图3.5``) are figures inside a picture, and no citations.

    Args:
        answer: The whole of it.
        sources: What was sent, pictures in the order of their numbers.
        language: Of names.
    """
    pictures = [result.node for result in sources if isinstance(result.node, ImageNode)]
    name = wording_of(language).name
    nodes: dict[str, BaseNode] = {}
    unknown: list[str] = []
    for number in dict.fromkeys(_cited_numbers(answer)):
        called = name.format(number=number)
        if 1 <= number <= len(pictures):
            nodes[called] = pictures[number - 1]
        else:
            unknown.append(called)
    return Citations(nodes, unknown)


def _cited_numbers(answer: str) -> Iterator[int]:
    for first in _FIRST.finditer(answer):
        number = int(first.group(1))
        numbers = [number]
        place = first.end()
        while following := _NEXT.match(answer, place):
            joint, number = following.group(1), int(following.group(2))
            if joint in _RANGE:
                if not numbers[-1] < number <= numbers[-1] + _LONGEST_RANGE:
                    break
                numbers.extend(range(numbers[-1] + 1, number + 1))
            else:
                numbers.append(number)
            place = following.end()
        else:
            yield from numbers
            continue
        # "图2-1" names a figure inside a picture; before a list that ends so, all is as it was.
        yield from numbers if len(numbers) > 1 else []
