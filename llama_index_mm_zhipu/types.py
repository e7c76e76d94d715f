"""Types that several packages share."""

from __future__ import annotations

from typing import Literal, TypeAlias

Language: TypeAlias = Literal["zh", "en"]
"""Language of prompts and labels; questions and answers may be in any language."""

OnError: TypeAlias = Literal["raise", "skip"]
"""What to do with an item that cannot be read: raise an error, or skip the item and report it."""
