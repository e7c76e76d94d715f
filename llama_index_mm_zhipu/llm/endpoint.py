"""Which key goes to which address: arguments, then the environment, then Zhipu's own address."""

from __future__ import annotations

import os
import re

from llama_index.core.bridge.pydantic import SecretStr

DEFAULT_API_BASE = "https://open.bigmodel.cn/api/paas/v4"
ZAI_API_BASE = "https://api.z.ai/api/paas/v4"
"""Zhipu's international service, which has keys of its own."""

# Prefixes of environment variables with the address of the service that the key is for, in the order they are read.
_SERVICES = {"ZHIPUAI": DEFAULT_API_BASE, "ZAI": ZAI_API_BASE}

# What is copied along with a key: quotes, also those of Chinese input methods, blanks, zero-width spaces and marks.
_AROUND_KEYS = " \t\r\n\v\f\u00a0\u3000\u200b\u2060\ufeff\"'`“”‘’「」『』＂＇"
_KEY = re.compile("[!-~]+")


def key_and_base(api_key: str | SecretStr | None, api_base: str | None) -> tuple[SecretStr, str]:
    """Return the key and the address to use.

    What is given wins. Then come ``ZHIPUAI_API_KEY`` and ``ZAI_API_KEY``, and the base URL whose variable has the same
    prefix as the key's. The base URL of the other prefix is used only if no key belongs to it.

    Args:
        api_key: Given key; None to read the environment.
        api_base: Given address; None or empty to read the environment.

    Raises:
        TypeError: The key is no text.
        ValueError: There is no key, or it holds characters that no key has.
    """
    prefix = next((prefix for prefix in _SERVICES if _variable(f"{prefix}_API_KEY")), "ZHIPUAI")
    key = checked_key(_variable(f"{prefix}_API_KEY") if api_key is None else api_key)
    if api_key is not None:
        bases = [_variable(f"{name}_BASE_URL") for name in _SERVICES]
        prefix = "ZHIPUAI"
    else:
        others = [name for name in _SERVICES if name != prefix and not _variable(f"{name}_API_KEY")]
        bases = [_variable(f"{name}_BASE_URL") for name in (prefix, *others)]
    return key, api_base or next(filter(None, bases), _SERVICES[prefix])


def checked_key(api_key: str | SecretStr) -> SecretStr:
    """Return a key without the quotes and blanks around it.

    Raises:
        TypeError: It is no text.
        ValueError: It is empty, or holds characters that no key has.
    """
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    if not isinstance(key, str):
        raise TypeError(f"api_key is a {type(key).__name__}; give the key as text")
    key = key.strip(_AROUND_KEYS)
    if not key:
        raise ValueError(
            "no API key: give ZhipuMultiModal(api_key=…) or set ZHIPUAI_API_KEY or ZAI_API_KEY; keys are free at "
            'https://open.bigmodel.cn; for a server of your own that takes any key, give api_key="EMPTY"'
        )
    # Other characters would end in an error of the HTTP library that quotes the key.
    if not _KEY.fullmatch(key):
        raise ValueError(
            "the API key holds a blank or a character outside ASCII, which no key has; copy the key alone, and whole"
        )
    return SecretStr(key)


def has_key_in_environment() -> bool:
    """Whether a key is set that ``key_and_base`` would use."""
    return any(_variable(f"{prefix}_API_KEY") for prefix in _SERVICES)


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip(_AROUND_KEYS)
