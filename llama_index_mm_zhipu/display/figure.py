"""A matplotlib figure that notebooks show without pyplot."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure

_NOTEBOOK_DPI = 100


class ResultsFigure(Figure):
    """A figure that shows itself as the last line of a notebook cell, whatever backend is set."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=_NOTEBOOK_DPI)
        return buffer.getvalue()
