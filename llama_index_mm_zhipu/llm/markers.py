"""Marks that GLM models leave in their text: reasoning in ``<think>``, the final answer in a box."""

from __future__ import annotations

from dataclasses import dataclass

THINK = ("<think>", "</think>")
BOX = ("<|begin_of_box|>", "<|end_of_box|>")


@dataclass
class MarkedText:
    """Text that comes in pieces, taken apart; a mark may be cut between two pieces.

    Attributes:
        text: Without marks and without reasoning.
        reasoning: What stood in ``<think>`` at the beginning of the text, or before a ``</think>`` that no ``<think>``
            came before: some servers leave the first mark out. Elsewhere these words are text.
        boxed: What stood in the last box; it is in the text, too.
    """

    text: str = ""
    reasoning: str = ""
    boxed: str = ""
    _held: str = ""
    _place: str = "start"
    _in_box: bool = False
    _may_end_thinking: bool = True
    _passed_on: int = 0

    def add(self, piece: str, *, last: bool) -> str:
        """Take a piece and return what it adds to the text.

        Text that a later ``</think>`` turns into reasoning was already returned: it cannot be taken back, but ``text``
        and ``reasoning`` are right from then on.

        Args:
            piece: The next piece, as it came.
            last: Whether it is the last one: then nothing is held back for a mark that may follow.
        """
        self._held += piece
        self._passed_on = len(self.text)
        while self._step(last):
            pass
        return self.text[self._passed_on :]

    def _step(self, last: bool) -> bool:
        """Take the next stretch off what is held; return whether there may be another."""
        if self._place == "start":
            return self._step_at_start(last)
        if self._place == "thinking":
            return self._step_in_thinking(last)
        if self._place == "after thinking":
            self._held = self._held.lstrip()
            if self._held:
                self._place = "text"
            return bool(self._held)
        return self._step_in_text(last)

    def _step_at_start(self, last: bool) -> bool:
        begun = self._held.lstrip()
        if begun.startswith(THINK[0]):
            self._held = begun.removeprefix(THINK[0])
            self._place = "thinking"
            self._may_end_thinking = False
            return True
        if last or not THINK[0].startswith(begun):
            self._place = "text"
            return True
        return False

    def _step_in_thinking(self, last: bool) -> bool:
        thought, mark, rest = self._held.partition(THINK[1])
        if mark:
            self._think(thought)
            self._held, self._place = rest, "after thinking"
            return True
        kept = 0 if last else _length_of_cut_mark(self._held, THINK[1:])
        self._think(self._held[: len(self._held) - kept])
        self._held = self._held[len(self._held) - kept :]
        return False

    def _step_in_text(self, last: bool) -> bool:
        marks = (*BOX, *THINK) if self._may_end_thinking else BOX
        found = [(place, mark) for mark in marks if (place := self._held.find(mark)) >= 0]
        if found:
            place, mark = min(found)
            self._take(self._held[:place])
            self._held = self._held[place + len(mark) :]
            self._take_mark(mark)
            return True
        kept = 0 if last else _length_of_cut_mark(self._held, marks)
        self._take(self._held[: len(self._held) - kept])
        self._held = self._held[len(self._held) - kept :]
        return False

    def _take_mark(self, mark: str) -> None:
        if mark in BOX:
            self._in_box = mark == BOX[0]
            self.boxed = "" if self._in_box else self.boxed
            return
        self._may_end_thinking = False
        if mark == THINK[0]:
            # The text speaks of the marks.
            self._take(mark)
            return
        self._think(self.text)
        self.text, self.boxed, self._in_box, self._passed_on = "", "", False, 0
        self._place = "after thinking"

    def _think(self, thought: str) -> None:
        self.reasoning += thought if self.reasoning else thought.lstrip()

    def _take(self, text: str) -> None:
        self.text += text
        if self._in_box:
            self.boxed += text


def _length_of_cut_mark(text: str, marks: tuple[str, ...]) -> int:
    """Return the length of the longest end of the text that one of the marks begins with."""
    lengths = range(min(len(text), max(map(len, marks)) - 1), 0, -1)
    return next((length for length in lengths if any(mark.startswith(text[-length:]) for mark in marks)), 0)
