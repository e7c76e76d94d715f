"""Find the images that an answer cites."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from llama_index.core.schema import BaseNode, ImageNode, NodeWithScore

from llama_index_mm_zhipu.prompts.wording import wording_of
from llama_index_mm_zhipu.readers.records import time_of
from llama_index_mm_zhipu.types import Language

logger = logging.getLogger(__name__)

CITATIONS = "citations"
"""Key of ``response.metadata``: the node id of each image that the answer cites, by name (``图1``)."""

UNKNOWN_CITATIONS = "unknown_citations"
"""Key of ``response.metadata``: names that the answer cites and that no image has."""

CITED_TIMES = "citation_times"
"""Key of ``response.metadata``: the time of each cited image that is a video frame, by name (``图1``)."""

_MAX_RANGE = 50

_RANGE = r"至|到|~|～|–|—|-|to\b|through\b"
_JOINT = rf"、|，|,\s*and\b|,\s*or\b|,|;|；|和|与|及|以及|或|and\b|or\b|&|{_RANGE}"
# Prompts ask to cite video frames with their time: "[图1，00:01:23]".
_CLOCK = r"\d{1,3}(?:[:：]\d{2}){1,2}(?:[.．]\d{1,3})?(?!\d)"
_TIME = rf"\s*(?:[，,、：:@]\s*)?(?:{_CLOCK}|[（(]\s*{_CLOCK}\s*[）)])"
# Not the number of a figure inside an image ("图3.5"), and not part of a name ("图4K", "图5S店").
_NUMBER = r"(?P<number>\d{1,4})(?!\d|[.．]\d|[A-Za-z])"
_NAME = r"图片?|[Pp]ictures?"
# The form that the prompts ask for: "[图1]". One pair of brackets may hold a list.
_BRACKETED = re.compile(
    rf"[\[【（(]\s*(?:{_NAME})\s*{_NUMBER}(?:{_TIME})?"
    rf"(?:\s*(?:{_JOINT})\s*(?:(?:{_NAME})\s*)?\d{{1,4}}(?:{_TIME})?)*\s*[\]】）)]"
)
_FIRST = re.compile(rf"(?:图片?|\b[Pp]icture(?P<plural>s?))\s*[\[【*]{{0,2}}{_NUMBER}[\]】*]{{0,2}}")
_NAMED = re.compile(rf"\s*(?P<joint>{_JOINT})\s*(?P<shown>(?:{_NAME})\s*{_NUMBER})")
_BARE = re.compile(rf"\s*(?P<joint>{_JOINT})\s*(?!{_CLOCK})(?P<shown>{_NUMBER})")
_TIMED = re.compile(_TIME)
# Chinese has no spaces: 图 may be the end of a word such as 地图 or 户型图. After these characters it begins one.
_BEFORE = re.compile(
    r"(?:^|[^\u4e00-\u9fff]|[如见在从和与及或跟对由的是为即据按比看把将向有中而但此以较合自于说用选给若于括除了到至示第请则都也被让使随另同仅只这那述张考阅察显呈取找做作认应需要来去过着得里前后间边处别]|如果|结果)\Z"
)
# With these, a character of the list above is part of another word: 组合图, 应用图 and the like.
_COMPOUND = re.compile(r"(?:用户|组合|集合|应用)\Z")
# After these the number counts or names other things: "户型图3室2厅", "图1号楼".
_OTHER_NUMBER = re.compile(r"\s*[室厅号层楼栋期版维]")
# These follow a bare number that counts things: "图1和2个苹果", "图1和2号车", "图1，3D打印", "Picture 1 and 2 hats".
_COUNTED = re.compile(
    r"\s*[A-Za-z个只张条辆位件块片元年月日岁%％双人种台页点次层本部支朵棵头匹把套幅米克倍天小分秒根扇顶瓶杯盒间座艘架颗粒面堆排箱袋包碗盘串株群号名]"
)
_END = re.compile(rf"\s*(?:$|[。．.；;：:！!？?）)\]】”\"\n]|{_JOINT}|[都均全皆各也里中上是为]|分别|显示|所示)")


class Citations(NamedTuple):
    """The images that an answer cites.

    Attributes:
        nodes: Cited nodes by name, in the order of first mention.
        unknown: Cited names that no image has.
    """

    nodes: dict[str, BaseNode]
    unknown: list[str]

    def as_metadata(self) -> dict[str, Any]:
        """Return the entries of ``response.metadata``; unknown names are also logged."""
        if self.unknown:
            logger.warning("the answer cites %s, and no image has that name", ", ".join(self.unknown))
        times = {name: time_of(node) for name, node in self.nodes.items()}
        return {
            CITATIONS: {name: node.node_id for name, node in self.nodes.items()},
            CITED_TIMES: {name: time for name, time in times.items() if time},
            UNKNOWN_CITATIONS: self.unknown,
        }


class Mention(NamedTuple):
    """A passage of an answer that cites images.

    Attributes:
        numbers: Numbers of the images; for the end of a range, ``图1至3``, also those between.
        start: Index of its first character.
        end: Index after its last one.
    """

    numbers: tuple[int, ...]
    start: int
    end: int


def citations_in(answer: str, sources: Sequence[NodeWithScore], language: Language = "zh") -> Citations:
    """Find the images that an answer cites.

    The prompts ask for ``[图1]``. These are citations: names in any brackets, lists and ranges of names
    (``[图1、图3]``, ``（图1至3）``), names with the time of a video frame (``[图1，00:01:23]``), and names without
    brackets in a context that allows it: ``图1``, ``图 1``, ``图片1``, ``Picture 1``, ``图1、2和3``, ``图1，2，3都有``.
    These are not: figures inside an image (``图3.5``), the ends of other words (``流程图2``, ``户型图3室2厅``), and
    other numbers (``图5S店``, the second one of ``图1和2号车``).

    Args:
        answer: The complete answer.
        sources: The nodes that were sent, images in the order of their numbers.
        language: ``"zh"`` or ``"en"``, the language of the names.

    Returns:
        The cited nodes by name, in the order of first mention, and the cited names that no image has.

    Examples:
        >>> from llama_index_mm_zhipu.query import citations_in
        >>> found = index.as_retriever(similarity_top_k=2).retrieve("红苹果")
        >>> citations = citations_in("红苹果见[图1]，价格见图9。", found)
        >>> {name: node.text for name, node in citations.nodes.items()}, citations.unknown
        ({'图1': '红苹果'}, ['图9'])
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
    """Find the passages of an answer that cite images, in order, whether or not there are images with these numbers."""
    in_brackets = [found.span() for found in _BRACKETED.finditer(answer)]
    end = 0
    for first in _FIRST.finditer(answer):
        if first.start() < end:
            # This is the end of a range, "图1至图3", which was read with its beginning.
            continue
        bracket_end = next((last for start, last in in_brackets if start < first.start() < last), None)
        if bracket_end is None and not _is_citation(answer, first):
            end = first.end()
            continue
        mentions = _list_from(answer, first, bracket_end)
        yield from mentions
        end = mentions[-1].end if mentions else first.end()


def _list_from(answer: str, first: re.Match[str], bracket_end: int | None) -> list[Mention]:
    """Return a mention and the bare numbers that follow it, as in ``图1、2和3``."""
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
    """Return whether the context allows to read a name without brackets as a citation."""
    if answer[first.start()] != "图":
        return True
    before = answer[max(0, first.start() - 3) : first.start()]
    is_word_of_its_own = _BEFORE.search(before) is not None and _COMPOUND.search(before) is None
    return is_word_of_its_own and _OTHER_NUMBER.match(answer, first.end()) is None


def _following(answer: str, position: int, bracket_end: int | None, *, plural: bool) -> re.Match[str] | None:
    """Find the next number of a list. A number with a name of its own begins another list, unless it ends a range."""
    if (time := _TIMED.match(answer, position)) is not None:
        position = time.end()
    if (named := _NAMED.match(answer, position)) is not None:
        return named if re.fullmatch(_RANGE, named["joint"]) else None
    bare = _BARE.match(answer, position)
    if bare is None or plural or (bracket_end is not None and bare.end() < bracket_end):
        return bare
    # A comma may begin another clause, which may begin with a count of anything.
    if bare["joint"] in ("，", ",", "；", ";") and not _END.match(answer, bare.end()):
        return None
    return None if _COUNTED.match(answer, bare.end()) else bare
