"""Find the images that an answer cites."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from llama_index.core.schema import BaseNode, ImageNode, NodeWithScore

from llama_index_mm_zhipu.prompts.wording import wording_of
from llama_index_mm_zhipu.types import Language

logger = logging.getLogger(__name__)

CITATIONS = "citations"
"""Key of ``response.metadata``: the node id of each image that the answer cites, by name (``图1``)."""

UNKNOWN_CITATIONS = "unknown_citations"
"""Key of ``response.metadata``: names that the answer cites and that no image has."""

_MAX_RANGE = 50

_RANGE = r"至|到|~|～|–|—|-|to\b|through\b"
_JOINT = rf"、|，|,\s*and\b|,\s*or\b|,|;|；|和|与|及|以及|或|and\b|or\b|&|{_RANGE}"
# Not the number of a figure inside an image ("图3.5"), and no part of a name ("图4K", "图5S店").
_NUMBER = r"(?P<number>\d{1,4})(?!\d|[.．]\d|[A-Za-z])"
_NAME = r"图片?|[Pp]ictures?"
# What the prompts ask for: "[图1]". A list may stand in one pair of brackets.
_BRACKETED = re.compile(
    rf"[\[【（(]\s*(?:{_NAME})\s*{_NUMBER}(?:\s*(?:{_JOINT})\s*(?:(?:{_NAME})\s*)?\d{{1,4}})*\s*[\]】）)]"
)
_FIRST = re.compile(rf"(?:图片?|\b[Pp]icture(?P<plural>s?))\s*[\[【*]{{0,2}}{_NUMBER}[\]】*]{{0,2}}")
_NAMED = re.compile(rf"\s*(?P<joint>{_JOINT})\s*(?P<shown>(?:{_NAME})\s*{_NUMBER})")
_BARE = re.compile(rf"\s*(?P<joint>{_JOINT})\s*(?P<shown>{_NUMBER})")
# Chinese sets no spaces: before 图 stands the end of a word such as 地图 or 户型图, or one of these, which end none.
_BEFORE = re.compile(
    r"(?:^|[^\u4e00-\u9fff]|[如见在从和与及或跟对由的是为即据按比看把将向有中而但此以较合自于说用选给若于括除了到至示第请则都也被让使随另同仅只这那述张考阅察显呈取找做作认应需要来去过着得里前后间边处别]|如果|结果)\Z"
)
# These make another word of a character above: 组合图, 应用图 and the like.
_COMPOUND = re.compile(r"(?:用户|组合|集合|应用)\Z")
# A number that counts or numbers other things: "户型图3室2厅", "图1号楼".
_OTHER_NUMBER = re.compile(r"\s*[室厅号层楼栋期版维]")
# What follows a bare number that counts things: "图1和2个苹果", "图1和2号车", "图1，3D打印", "Picture 1 and 2 hats".
_COUNTED = re.compile(
    r"\s*[A-Za-z个只张条辆位件块片元年月日岁%％双人种台页点次层本部支朵棵头匹把套幅米克倍天小分秒根扇顶瓶杯盒间座艘架颗粒面堆排箱袋包碗盘串株群号名]"
)
_END = re.compile(rf"\s*(?:$|[。．.；;：:！!？?）)\]】”\"\n]|{_JOINT}|[都均全皆各也里中上是为]|分别|显示|所示)")


class Citations(NamedTuple):
    """What an answer cites.

    Attributes:
        nodes: By name, in the order of first mention.
        unknown: Names that no image has.
    """

    nodes: dict[str, BaseNode]
    unknown: list[str]

    def as_metadata(self) -> dict[str, Any]:
        """Return what goes into ``response.metadata``; what is unknown is logged, too."""
        if self.unknown:
            logger.warning("the answer cites %s, which no image is called", ", ".join(self.unknown))
        return {
            CITATIONS: {name: node.node_id for name, node in self.nodes.items()},
            UNKNOWN_CITATIONS: self.unknown,
        }


class Mention(NamedTuple):
    """A place in an answer that cites images.

    Attributes:
        numbers: Of the images; several for the end of a range, ``图1至3``, which stands for those between, too.
        start: Index of its first character.
        end: Index after its last one.
    """

    numbers: tuple[int, ...]
    start: int
    end: int


def citations_in(answer: str, sources: Sequence[NodeWithScore], language: Language = "zh") -> Citations:
    """Find the images that an answer cites.

    The prompts ask for ``[图1]``. Understood are names in any brackets, lists and ranges of them (``[图1、图3]``,
    ``（图1至3）``), and names without brackets where nothing speaks against them: ``图1``, ``图 1``, ``图片1``,
    ``Picture 1``, ``图1、2和3``, ``图1，2，3都有``. No citations are figures inside an image (``图3.5``), the ends of
    other words (``流程图2``, ``户型图3室2厅``), and other numbers (``图5S店``, the second of ``图1和2号车``).

    Args:
        answer: The whole of it.
        sources: What was sent, images in the order of their numbers.
        language: Of names.
    """
    images = [result.node for result in sources if isinstance(result.node, ImageNode)]
    name = wording_of(language).name
    nodes: dict[str, BaseNode] = {}
    unknown: list[str] = []
    for number in dict.fromkeys(number for mention in mentions_in(answer) for number in mention.numbers):
        called = name.format(number=number)
        if 1 <= number <= len(images):
            nodes[called] = images[number - 1]
        else:
            unknown.append(called)
    return Citations(nodes, unknown)


def mentions_in(answer: str) -> Iterator[Mention]:
    """Find where an answer cites images, in order; the numbers need not be those of images that there are."""
    in_brackets = [found.span() for found in _BRACKETED.finditer(answer)]
    end = 0
    for first in _FIRST.finditer(answer):
        if first.start() < end:
            # The end of a range, "图1至图3", which was read with its beginning.
            continue
        bracket_end = next((last for start, last in in_brackets if start < first.start() < last), None)
        if bracket_end is None and not _is_citation(answer, first):
            end = first.end()
            continue
        mentions = _list_from(answer, first, bracket_end)
        yield from mentions
        end = mentions[-1].end if mentions else first.end()


def _list_from(answer: str, first: re.Match[str], bracket_end: int | None) -> list[Mention]:
    """Return a mention and the bare numbers that it is followed by, as in ``图1、2和3``."""
    mentions = [Mention((int(first["number"]),), first.start(), first.end())]
    while following := _following(answer, mentions[-1].end, bracket_end, plural=bool(first["plural"])):
        joint, number = following["joint"], int(following["number"])
        last = mentions[-1].numbers[-1]
        numbers: tuple[int, ...] = (number,)
        if re.fullmatch(_RANGE, joint):
            if not last < number <= last + _MAX_RANGE:
                # "图2-1" names a figure inside an image.
                return mentions[:-1] if joint == "-" else mentions
            numbers = tuple(range(last + 1, number + 1))
        mentions.append(Mention(numbers, following.start("shown"), following.end()))
    return mentions


def _is_citation(answer: str, first: re.Match[str]) -> bool:
    """Whether nothing speaks against a name without brackets."""
    if answer[first.start()] != "图":
        return True
    before = answer[max(0, first.start() - 3) : first.start()]
    is_word_of_its_own = _BEFORE.search(before) is not None and _COMPOUND.search(before) is None
    return is_word_of_its_own and _OTHER_NUMBER.match(answer, first.end()) is None


def _following(answer: str, place: int, bracket_end: int | None, *, plural: bool) -> re.Match[str] | None:
    """Find the next number of a list: one with a name of its own is another first number, unless it ends a range."""
    if (named := _NAMED.match(answer, place)) is not None:
        return named if re.fullmatch(_RANGE, named["joint"]) else None
    bare = _BARE.match(answer, place)
    if bare is None or plural or (bracket_end is not None and bare.end() < bracket_end):
        return bare
    # A comma may begin another clause, which may begin with a count of anything.
    if bare["joint"] in ("，", ",", "；", ";") and not _END.match(answer, bare.end()):
        return None
    return None if _COUNTED.match(answer, bare.end()) else bare
