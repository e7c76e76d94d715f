"""What the command says, in two languages. Messages of the library itself are passed on as they are, in English."""

from __future__ import annotations

import locale
import os
from collections.abc import Mapping

from llama_index_mm_zhipu.cli.wording.chinese import CHINESE
from llama_index_mm_zhipu.cli.wording.english import ENGLISH
from llama_index_mm_zhipu.cli.wording.fields import CliWording, Count
from llama_index_mm_zhipu.types import Language

__all__ = ["WORDING", "CliWording", "Count", "language_of_environment"]

WORDING: dict[Language, CliWording] = {"zh": CHINESE, "en": ENGLISH}

_VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
"""Where POSIX looks for the language of messages, in this order."""


def language_of_environment(environment: Mapping[str, str] = os.environ) -> Language:
    """Return Chinese if the locale is Chinese, otherwise English.

    Args:
        environment: The environment variables.
    """
    named = next(filter(None, map(environment.get, _VARIABLES)), None)
    if named is None:
        # Windows has none of the variables.
        named = locale.getlocale()[0] or ""
    elif named.partition(".")[0] not in ("C", "POSIX"):
        # As in gettext, a list of languages goes before the locale, unless that is C.
        named = environment.get("LANGUAGE") or named
    return "zh" if named.lower().startswith(("zh", "chinese")) else "en"
