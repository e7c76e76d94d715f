"""A terminal in which a program runs: what it shows, and what is typed."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Callable

from waiting import PATIENCE


class Terminal:
    """A terminal of 80 columns and 24 lines.

    Args:
        start: Starts the program with the given file descriptor as its input, output and error output.

    Attributes:
        shown: All that was shown so far, with control characters.
    """

    def __init__(self, start: Callable[[int], subprocess.Popen[str]]) -> None:
        self.shown = ""
        self._waited_for = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._process = start(slave)
        os.close(slave)

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> str:
        """Wait until a text is shown after what was waited for before; return what was shown before it."""
        while (end := self.shown.find(text, self._waited_for)) < 0:
            assert self._read(), self._end
        before = self.shown[self._waited_for : end]
        self._waited_for = end + len(text)
        return before

    def wait(self) -> int:
        """Wait until the program ends; return its exit status."""
        while self._read():
            pass
        os.close(self._master)
        return self._process.wait(PATIENCE)

    def _read(self) -> bool:
        """Read what is shown next; return False at the end."""
        ready, _, _ = select.select([self._master], [], [], PATIENCE)
        assert ready, self._end
        try:
            data = os.read(self._master, 65_536)
        except OSError:
            # Linux reports the end of a terminal as an error.
            return False
        self.shown += self._decoder.decode(data)
        return bool(data)

    @property
    def _end(self) -> str:
        """The end of what is shown: images fill pages."""
        return self.shown[-1000:]
