"""Run all checks one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from llama_index_mm_zhipu.cli.doctor.check import Check, Context, Finding
from llama_index_mm_zhipu.cli.doctor.installation import (
    check_extras,
    check_font,
    check_libreoffice,
    check_openvino,
    check_package,
    check_python,
)
from llama_index_mm_zhipu.cli.doctor.machine import check_cores, check_disk, check_memory
from llama_index_mm_zhipu.cli.doctor.network import check_proxies
from llama_index_mm_zhipu.cli.doctor.service import check_endpoint, check_key
from llama_index_mm_zhipu.cli.doctor.store import check_store
from llama_index_mm_zhipu.cli.doctor.torch_pair import check_torch
from llama_index_mm_zhipu.cli.doctor.weights import check_download, check_weights
from llama_index_mm_zhipu.cli.doctor.wording import wording_of
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.types import Language

DEFAULT_MODEL = "ViT-B-16"
"""The model of ``ChineseClipEmbedding()``."""

CheckFunction = Callable[[Context], "Finding | None"]
"""A check; None means that there is nothing to check."""

# In this order: openvino uses what torch found; download, store and disk use what weights found.
_CHECKS: dict[str, CheckFunction] = {
    "python": check_python,
    "package": check_package,
    "torch": check_torch,
    "openvino": check_openvino,
    "extras": check_extras,
    "libreoffice": check_libreoffice,
    "font": check_font,
    "memory": check_memory,
    "cores": check_cores,
    "proxies": check_proxies,
    "weights": check_weights,
    "download": check_download,
    "key": check_key,
    "endpoint": check_endpoint,
    "store": check_store,
    "disk": check_disk,
}

_CREDENTIALS = re.compile(r"//[^/\s]*@")


def run_checks(*, store: Path | None, model: str | None, language: Language, online: bool = True) -> Iterator[Check]:
    """Yield the result of each check as soon as it is there.

    Nothing is written, no key is sent, and no error is raised: a check that fails unexpectedly is reported as failed.

    Args:
        store: Folder of an index; None checks no index.
        model: Name or path of a model, as ``ChineseClipEmbedding`` takes it; None for its default.
        language: Language of titles, details and advice. Reasons that other programs gave stay in their language.
        online: Whether to ask the hosts of weights and of the API whether they can be reached.

    Raises:
        ValueError: The language is not known.
    """
    context = Context(
        store=None if store is None else store.expanduser(),
        model=model or DEFAULT_MODEL,
        is_default_model=not model,
        words=wording_of(language),
        online=online,
    )
    return _results(context)


def _results(context: Context) -> Iterator[Check]:
    for name, check in _CHECKS.items():
        finding = finding_of(check, context)
        if finding is not None:
            title = context.words.titles[name]
            yield Check(name, title, finding.status, one_line(finding.detail), one_line(finding.advice))


def finding_of(check: CheckFunction, context: Context) -> Finding | None:
    """Return what a check found; an error that it raised becomes a failed one, without credentials in its URLs."""
    try:
        return check(context)
    except Exception as error:
        reason = _CREDENTIALS.sub("//…@", f"{type(error).__name__}: {error}")
        return Finding("failed", context.words.crashed.format(reason=reason), context.words.crashed_advice)
