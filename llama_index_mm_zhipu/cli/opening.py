"""Find and open the index that the options of a command name."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from llama_index_mm_zhipu.cli.console import Console, shell_quoted
from llama_index_mm_zhipu.cli.errors import NoIndexError
from llama_index_mm_zhipu.store_file import IMAGES_FILE

if TYPE_CHECKING:
    from llama_index_mm_zhipu.llm import ZhipuMultiModal
    from llama_index_mm_zhipu.service.image_service import ImageService


def require_index(options: argparse.Namespace, console: Console) -> None:
    """Check that there is an index at ``--store``, without loading LlamaIndex.

    Raises:
        NoIndexError: There is none.
    """
    if not (options.store / IMAGES_FILE).is_file():
        raise NoIndexError(console.wording.no_index.format(store=shell_quoted(str(options.store))))


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
