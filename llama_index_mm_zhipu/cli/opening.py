"""Open the service for a command by its options."""

from __future__ import annotations

import argparse
from typing import Any

from llama_index_mm_zhipu.cli.console import Console
from llama_index_mm_zhipu.index.build import has_index
from llama_index_mm_zhipu.service.image_service import ImageService


class NoIndexError(FileNotFoundError):
    """There is no index where the command looks for it."""


def open_service(options: argparse.Namespace, console: Console) -> ImageService:
    """Return the service over the index of ``--store``.

    Args:
        options: ``store``, ``model``, ``device`` and ``precision``; ``llm`` and ``mock`` of commands that answer.
        console: Where to write.

    Raises:
        NoIndexError: There is no index.
    """
    require_index(options, console)
    llm = _chat_model(options, console) if hasattr(options, "llm") else None
    return ImageService.open(
        options.store, model=options.model, device=options.device, precision=options.precision, llm=llm
    )


def require_index(options: argparse.Namespace, console: Console) -> None:
    """Check that there is an index.

    Raises:
        NoIndexError: There is none.
    """
    if not has_index(options.store):
        raise NoIndexError(console.wording.no_index.format(store=options.store))


def _chat_model(options: argparse.Namespace, console: Console) -> Any:
    """Return the LLM that the options choose; None for the default one, which is made at the first question."""
    from llama_index_mm_zhipu.llm import ZhipuMultiModal

    if options.mock:
        from llama_index_mm_zhipu.testing.mock_server import mock_glm

        console.note(console.wording.mock)
        return mock_glm(options.llm or ZhipuMultiModal.model_fields["model"].default)
    return ZhipuMultiModal(options.llm) if options.llm else None
