"""LlamaIndex's text splitter, and the one error of it that the way of installing causes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_REMEDY = "uv pip install --link-mode copy --reinstall-package llama-index-core llama-index-core"


@contextmanager
def nltk_errors_explained() -> Iterator[None]:
    """Say what to do where nltk refuses the data that llama-index-core ships for its sentence splitter.

    nltk ≥ 3.10.3 opens no file that has two names, and uv installs such files: it links them from its cache.

    Raises:
        PermissionError: nltk refused the data; the message holds the command that helps.
    """
    try:
        yield
    except PermissionError as error:
        if "multiply-linked" not in str(error):
            raise
        raise PermissionError(
            "the text cannot be split: nltk refuses the data of llama-index-core, which uv linked from its cache; "
            f"install a copy of it: {_REMEDY}"
        ) from None
