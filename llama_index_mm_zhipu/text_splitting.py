"""LlamaIndex's text splitter, and the one error of it that the way of installing causes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

_CORE = "llama-index-core"


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
            f"the text cannot be split: nltk refuses the data of {_CORE}, which uv linked from its cache; install a "
            f"copy of it: uv pip install --no-deps --link-mode copy --reinstall-package {_CORE} "
            f"{_CORE}=={version(_CORE)}"
        ) from None
