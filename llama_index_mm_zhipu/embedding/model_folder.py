"""Find the files of weights in the folder of a model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from llama_index_mm_zhipu.embedding.errors import CheckpointError, in_one_line
from llama_index_mm_zhipu.embedding.chinese_clip.weight_files import is_lfs_pointer, no_weights

CONFIG = "config.json"

_TRANSFORMERS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})(?P<suffix>\.safetensors|\.bin)")
# What transformers' Trainer writes beside the weights.
_TRAINER_FILES = re.compile(r"(optimizer|scheduler|scaler|training_args|rng_state.*)\.pt")


def read_config(folder: Path) -> Any:
    """Read the ``config.json`` of a folder.

    Raises:
        CheckpointError: It cannot be read, or is not JSON.
    """
    path = folder / CONFIG
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        detail = no_weights(path) or in_one_line(error)
        raise CheckpointError(f"{path} is not a configuration of cn_clip's CLIP: {detail}") from None


def weights_in(folder: Path, official_filename: str | None, *, pt_first: bool) -> tuple[Path, ...]:
    """Choose the weights in a folder; a git-lfs pointer is taken only where there is nothing else.

    Args:
        folder: A folder with weights and ``config.json``.
        official_filename: Name of the official ``.pt`` file of this architecture, which is taken before others.
        pt_first: Whether to prefer a ``.pt`` file to ``model.safetensors`` and ``pytorch_model.bin``.

    Returns:
        The file; for weights in several files the index, if there is one, and then all of them.

    Raises:
        CheckpointError: There are no weights, several ``.pt`` files, or not all files of one model.
    """
    pt_files = _pt_files(folder, official_filename)
    # An index that was not downloaded along leaves the first of several files.
    others = [folder / name for name in _TRANSFORMERS_FILES if (folder / name).is_file()]
    others += [path for path in sorted(folder.glob("*-00001-of-*")) if _SHARD.fullmatch(path.name)]
    preferred = [] if pt_first else [path for path in others if path.name == _TRANSFORMERS_FILES[0]]
    candidates = [*preferred, *pt_files, *others]
    if not candidates:
        raise CheckpointError(
            f"{folder} must hold model.safetensors, pytorch_model.bin or exactly one .pt file; found: none"
        )
    fetched = [path for path in candidates if not is_lfs_pointer(path)]
    first = (fetched or candidates)[0]
    choices = [path for path in pt_files if path in (fetched or candidates)]
    if first in choices and len(choices) > 1:
        names = in_one_line(", ".join(path.name for path in choices))
        raise CheckpointError(
            f"{folder} must hold model.safetensors or exactly one .pt file; found: {names}; give the path of one"
        )
    return all_files(first)


def all_files(path: Path) -> tuple[Path, ...]:
    """Return the files that belong to a file of weights: itself, or an index and the files that it lists.

    Args:
        path: A file of weights, one of several files of a model (``…-00001-of-00002.bin``), or their index.

    Raises:
        CheckpointError: One of the files is missing, or the index is damaged.
    """
    shard = _SHARD.fullmatch(path.name)
    if shard:
        index = path.with_name(f"{shard['stem']}{shard['suffix']}.index.json")
        if index.is_file():
            return all_files(index)
        count = int(shard["count"])
        names = [f"{shard['stem']}-{n:05}-of-{shard['count']}{shard['suffix']}" for n in range(1, count + 1)]
        return _present([path.with_name(name) for name in names])
    if not path.name.endswith(".index.json"):
        return (path,)
    try:
        names = sorted(set(json.loads(path.read_text(encoding="utf-8-sig"))["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise ValueError("it names files in other folders")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        detail = no_weights(path) if isinstance(error, json.JSONDecodeError) else None
        detail = detail or f"{type(error).__name__}: {in_one_line(error)}; fetch it again"
        raise CheckpointError(f"{path} is not an index of files of weights: {detail}") from None
    return (path, *_present([path.with_name(name) for name in names]))


def _pt_files(folder: Path, official_filename: str | None) -> list[Path]:
    if official_filename and (folder / official_filename).is_file():
        return [folder / official_filename]
    files = [path for path in sorted(folder.glob("*.pt")) if path.is_file() and not _TRAINER_FILES.fullmatch(path.name)]
    official = [path for path in files if path.name.startswith("clip_cn_")]
    return official if len(official) == 1 else files


def _present(paths: list[Path]) -> tuple[Path, ...]:
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        names = in_one_line(", ".join(missing))
        raise CheckpointError(f"{paths[0].parent} lacks files of the weights, fetch them: {names}")
    return tuple(paths)
