"""What the command says about errors, and the errors that it raises itself."""

from __future__ import annotations

from llama_index_mm_zhipu.cli.wording import CliWording
from llama_index_mm_zhipu.service.errors import class_names, is_expected, message_of


class NoIndexError(FileNotFoundError):
    """There is no index where the command looks for it."""


def explained(error: Exception, wording: CliWording) -> str:
    """Return an error in one line: what happened, and what to do.

    Args:
        error: The error.
        wording: The words of the language.
    """
    names, message = class_names(error), message_of(error)
    if not is_expected(error):
        return wording.unexpected.format(type=names[0], message=message)
    template = next((wording.reasons[name] for name in names if name in wording.reasons), "{message}")
    return template.format(message=message)
