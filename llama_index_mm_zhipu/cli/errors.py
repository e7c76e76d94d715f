"""What the command says about errors, and the errors that it raises itself."""

from __future__ import annotations

from llama_index_mm_zhipu.cli.wording import CliWording
from llama_index_mm_zhipu.service.errors import class_names, is_expected, message_of
from llama_index_mm_zhipu.text import one_line


class NoIndexError(FileNotFoundError):
    """There is no index where the command looks for it."""


class MissingPathError(FileNotFoundError):
    """A file or folder of the command line does not exist."""


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
    values = {
        name: wording.comma.join(map(one_line, value)) if isinstance(value, list) else one_line(str(value))
        for name, value in vars(error).items()
    }
    return template.format(**{**values, "message": message})
