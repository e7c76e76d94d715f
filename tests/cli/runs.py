"""What a run of the command returned and wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple


class Run(NamedTuple):
    """A run of the command.

    Attributes:
        status: Its exit status.
        out: What it wrote on stdout.
        err: What it wrote on stderr.
    """

    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lines of stdout, which are JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Run]
