"""What was encoded lately, by the content of the picture, or by its address."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from cachetools import TTLCache

from llama_index_mm_zhipu.llm.fork_safe import fork_safe_lock

_CHARACTERS = 64 * 1024 * 1024
_SECONDS = 600.0

_encoded: TTLCache[Hashable, str] = TTLCache(_CHARACTERS, _SECONDS, getsizeof=len)
_lock = fork_safe_lock()


def remembered(key: Hashable, encode: Callable[[], str]) -> str:
    """Return what was encoded under a key in the last ten minutes, else encode it; up to 64 MiB are kept."""
    with _lock:
        known = _encoded.get(key)
    if known is not None:
        return known
    encoded = encode()
    if len(encoded) <= _CHARACTERS:
        with _lock:
            _encoded[key] = encoded
    return encoded


def forget_pictures() -> None:
    """Forget all."""
    with _lock:
        _encoded.clear()
