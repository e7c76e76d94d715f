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

_RANGE = r"至|到|~|～|–|—|-|to\b|through\b"
_JOINT = rf"、|，|,\s*and\b|,\s*or\b|,|和|与|及|以及|或|and\b|or\b|&|{_RANGE}"
# Not the number of a figure inside a picture: "图3.5", "图2-1" (the latter is told from a range by its order).
_NUMBER = r"(?P<number>\d{1,4})(?!\d|[.．]\d)"
# Not the end of another word, as in 地图 or 流程图.
_OTHER_WORDS = "地插截拼程意例版蓝试企构视框略状面草底贴线饼导"
_FIRST = re.compile(
    rf"(?:(?<![{_OTHER_WORDS}])图片?|\b[Pp]icture(?P<plural>s?))\s*[\[【*]{{0,2}}{_NUMBER}[\]】*]{{0,2}}"
)
_NAMED = re.compile(rf"\s*(?P<joint>{_JOINT})\s*(?P<shown>(?:图片?|[Pp]ictures?)\s*{_NUMBER})")
_BARE = re.compile(rf"\s*(?P<joint>{_JOINT})\s*(?P<shown>{_NUMBER})")
# What follows a bare number that counts things: "图1和2个苹果", "图1，3D打印", "Picture 1 and 2 hats".
_COUNTED = re.compile(
    r"\s*[A-Za-z个只张条辆位件块片元年月日岁%％双名人种台页点次层本部支朵棵头匹把套幅米克倍天小分秒根扇顶瓶杯盒间座艘架颗粒面堆排箱袋包碗盘串株群]"
)
_END = re.compile(rf"\s*(?:$|[。．.；;：:！!？?）)\]】”\"\n]|{_JOINT})")


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


class Mention(NamedTuple):
    """A place in an answer that cites pictures.

    Attributes:
        numbers: Of the pictures; several for the end of a range, ``图1至3``, which stands for those between, too.
        start: Index of its first character.
        end: Index after its last one.
    """

    numbers: tuple[int, ...]
    start: int
    end: int


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
    for number in dict.fromkeys(number for mention in mentions_in(answer) for number in mention.numbers):
        called = name.format(number=number)
        if 1 <= number <= len(pictures):
            nodes[called] = pictures[number - 1]
        else:
            unknown.append(called)
    return Citations(nodes, unknown)


def mentions_in(answer: str) -> Iterator[Mention]:
    """Find where an answer cites pictures, in order; the numbers need not be those of pictures that there are."""
    end = 0
    for first in _FIRST.finditer(answer):
        if first.start() < end:
            # The end of a range, "图1至图3", which was read with its beginning.
            continue
        mentions = [Mention((int(first["number"]),), first.start(), first.end())]
        while following := _following(answer, mentions[-1].end, plural=bool(first["plural"])):
            joint, number = following["joint"], int(following["number"])
            last = mentions[-1].numbers[-1]
            numbers: tuple[int, ...] = (number,)
            if re.fullmatch(_RANGE, joint):
                if not last < number <= last + _LONGEST_RANGE:
                    # "图2-1" names a figure inside a picture.
                    mentions = mentions[:-1] if joint == "-" else mentions
                    break
                numbers = tuple(range(last + 1, number + 1))
            mentions.append(Mention(numbers, following.start("shown"), following.end()))
        yield from mentions
        end = mentions[-1].end if mentions else first.end()


def _following(answer: str, place: int, *, plural: bool) -> re.Match[str] | None:
    """Find the next number of a list: one with a name of its own is another first number, unless it ends a range."""
    if (named := _NAMED.match(answer, place)) is not None:
        return named if re.fullmatch(_RANGE, named["joint"]) else None
    bare = _BARE.match(answer, place)
    if bare is None or plural:
        return bare
    # A comma may begin another clause, which may begin with a count of anything.
    if bare["joint"] in ("，", ",") and not _END.match(answer, bare.end()):
        return None
    return None if _COUNTED.match(answer, bare.end()) else bare
