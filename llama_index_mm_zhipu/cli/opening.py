"""Find and open the index that the options of a command name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index_mm_zhipu.cli.console import Console, shell_quoted
from llama_index_mm_zhipu.cli.errors import MissingPathError, NoIndexError
from llama_index_mm_zhipu.cli.parser import INPUTS, SIDECAR
from llama_index_mm_zhipu.store_file import IMAGES_FILE
from llama_index_mm_zhipu.text import one_line

if TYPE_CHECKING:
    from llama_index_mm_zhipu.llm import ZhipuMultiModal
    from llama_index_mm_zhipu.service.image_service import ImageService

_NO_PATHS = ("", SIDECAR)
"""Values of options for paths that are none."""


def require_index(options: argparse.Namespace, console: Console) -> None:
    """Check that there is an index at ``--store``, without loading LlamaIndex.

    Raises:
        NoIndexError: There is none.
    """
    if not (options.store / IMAGES_FILE).is_file():
        raise NoIndexError(console.wording.no_index.format(store=shell_quoted(str(options.store))))


def require_inputs(options: argparse.Namespace, console: Console) -> None:
    """Check that the files and folders that a command reads exist, before anything is loaded.

    Raises:
        MissingPathError: One does not.
    """
    for name in INPUTS.get(options.command, ()):
        given = getattr(options, name)
        for path in given if isinstance(given, list) else [given]:
            if path is not None and str(path) not in _NO_PATHS and not _is_url(str(path)):
                _require_path(Path(path).expanduser().absolute(), console)


def _require_path(path: Path, console: Console) -> None:
    if not path.exists():
        raise MissingPathError(console.wording.no_path.format(path=one_line(str(path))))


def _is_url(text: str) -> bool:
    return text.startswith("data:") or "://" in text


def open_service(options: argparse.Namespace, console: Console) -> ImageService:
    """Return the service over the index of ``--store``.

    Args:
        options: ``store``, ``model``, ``device`` and ``precision``; ``llm`` and ``mock`` of commands that answer.
        console: Where to write.

    Raises:
        NoIndexError: There is no index.
    """
    require_index(options, console)
    from llama_index_mm_zhipu.service.image_service import ImageService

    llm = _chat_model(options, console) if hasattr(options, "llm") else None
    return ImageService.open(
        options.store, model=options.model, device=options.device, precision=options.precision, llm=llm
    )


def _chat_model(options: argparse.Namespace, console: Console) -> Any:
    """Return the LLM that the options choose; None for the default one, which is made at the first question."""
    from llama_index_mm_zhipu.llm import ZhipuMultiModal

    if options.mock:
        return _mock(options, console)
    return ZhipuMultiModal(options.llm) if options.llm else None


def chat_model_or_mock(options: argparse.Namespace, console: Console) -> tuple[ZhipuMultiModal, bool]:
    """Return the LLM that the options choose, or the mock if there is no key; and whether it is the mock.

    Args:
        options: ``llm`` and ``mock``.
        console: Where to write.
    """
    from llama_index_mm_zhipu.llm import ZhipuMultiModal
    from llama_index_mm_zhipu.llm.endpoint import key_variable

    if options.mock or key_variable() is None:
        return _mock(options, console), True
    return ZhipuMultiModal(options.llm) if options.llm else ZhipuMultiModal(), False


def _mock(options: argparse.Namespace, console: Console) -> ZhipuMultiModal:
    from llama_index_mm_zhipu.llm import ZhipuMultiModal
    from llama_index_mm_zhipu.testing.mock_server import mock_glm

    console.note(console.wording.mock)
    return mock_glm(options.llm or ZhipuMultiModal.model_fields["model"].default)
