"""Checks of the key and the address of the GLM API."""

from __future__ import annotations

import re

from llama_index_mm_zhipu.cli.doctor.check import Context, Finding, Status
from llama_index_mm_zhipu.cli.doctor.network import ask

# Zhipu's keys are an id and a secret. Servers of one's own take any key.
_ZHIPU_KEY = re.compile(r"[^.]+\.[^.]+")


def check_key(context: Context) -> Finding:
    """Check that a key is set and has the form of a key; no part of it is shown."""
    from llama_index_mm_zhipu.llm.endpoint import is_http_url, key_and_base, key_variable, style_at

    words = context.words
    variable = key_variable()
    if variable is None:
        return Finding("warning", words.key_missing, words.key_missing_advice)
    try:
        key, base = key_and_base(None, None)
    except ValueError:
        return Finding("failed", words.key_invalid.format(variable=variable), words.key_invalid_advice)
    is_zhipu = is_http_url(base) and style_at("auto", base) == "glm"
    if is_zhipu and not _ZHIPU_KEY.fullmatch(key.get_secret_value()):
        return Finding("warning", words.key_unusual.format(variable=variable), words.key_unusual_advice)
    return Finding("ok", words.key.format(variable=variable))


def check_endpoint(context: Context) -> Finding:
    """Check that the address of the API can be reached; no key is sent."""
    from llama_index_mm_zhipu.llm.endpoint import base_in_environment, is_http_url, key_variable, without_credentials

    words = context.words
    base = base_in_environment()
    shown = without_credentials(base)
    if not is_http_url(base):
        return Finding("failed", words.endpoint_invalid.format(url=shown), words.endpoint_invalid_advice)
    if not context.online:
        return Finding("ok", words.not_asked.format(host=shown))
    (answer,) = ask([base], method="GET")
    if not answer.status:
        # Without a key, the API is probably not used.
        status: Status = "warning" if key_variable() is None else "failed"
        return Finding(status, answer.describe(words), words.endpoint_advice)
    if answer.status >= 500:
        detail = words.answers_with.format(host=shown, status=answer.status)
        return Finding("warning", detail, words.endpoint_later_advice)
    # 401 and 404 are the answers to a request without key and path.
    return Finding("ok", words.answers.format(host=shown))
