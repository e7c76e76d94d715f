"""``mmzhipu info``: what an index holds, read from its files alone, in a tenth of a second."""

from __future__ import annotations

import argparse
from pathlib import Path

from llama_index_mm_zhipu.cli.console import Console, ExitStatus
from llama_index_mm_zhipu.cli.opening import require_index
from llama_index_mm_zhipu.service.status import IndexStatus, status_of
from llama_index_mm_zhipu.text import columns_of, one_line, readable_size


def run(options: argparse.Namespace, console: Console) -> int:
    """Print the status of the index; return the exit status."""
    require_index(options, console)
    status = status_of(options.store)
    if console.is_json:
        console.data(status.as_dict())
        return ExitStatus.DONE
    lines = _lines(status, console)
    width = max(map(columns_of, (name for name, _ in lines)))
    for name, text in lines:
        console.result(f"{console.bold(name)}{' ' * (width - columns_of(name) + 2)}{text}")
    return ExitStatus.DONE


def _lines(status: IndexStatus, console: Console) -> list[tuple[str, str]]:
    wording = console.wording
    weight = wording.unknown
    if status.caption_weight is not None:
        template = wording.weight if status.caption_weight else wording.no_weight
        weight = template.format(weight=status.caption_weight)
    vectors = wording.vectors.format(
        dimension=status.dimension, precision=status.precision, index_type=status.index_type
    )
    lines = [
        ("store", one_line(str(Path(status.folder).absolute()))),
        ("images", f"{status.images:,}"),
        ("texts", f"{status.texts:,}"),
        ("model", f"{one_line(status.model) or wording.unknown}  ({status.fingerprint})"),
        ("vectors", vectors if status.dimension else wording.unknown),
        ("captions", weight),
        ("size", readable_size(status.bytes)),
        ("metadata", ", ".join(map(one_line, status.metadata_keys)) or "–"),
    ]
    for source in status.sources:
        gone = "" if source.exists else f"  {wording.gone}"
        lines.append(("source", f"{source.images:,}  {one_line(source.path)}{gone}"))
    return [(wording.info[name], text) for name, text in lines]
