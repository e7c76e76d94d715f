"""Find the weight files in a folder, and read them without executing anything in them.

A file that cannot be read as weights, such as a git-lfs pointer or a web page, is described in the error.
"""

from __future__ import annotations

import json
import pickle
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from llama_index_mm_zhipu.embedding.backends import CheckpointError, short_detail
from llama_index_mm_zhipu.embedding.chinese_clip.official_models import HUGGING_FACE_MIRROR

CONFIG = "config.json"

_TRANSFORMERS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})(?P<suffix>\.safetensors|\.bin)")
# Files that transformers' Trainer writes beside the weights.
_TRAINER_FILES = re.compile(r"(optimizer|scheduler|scaler|training_args|rng_state.*)\.pt")

_LFS_POINTER = b"version https://git-lfs"
_HEAD_BYTES = 512
# A pickle names its classes near its start; that of a full-size model has some 200 kB.
_PICKLE_BYTES = 16 << 20
# Modules whose classes occur in every state dict.
_TENSOR_MODULES = {"collections", "torch", "torch._tensor", "torch._utils", "torch.nn.parameter", "torch.storage"}
# Attributes of every torch.nn.Module.
_MODULE_ATTRIBUTES = {"_parameters", "_buffers", "_modules"}


def read_config(folder: Path) -> Any:
    """Return the content of the ``config.json`` of a folder.

    Raises:
        CheckpointError: It cannot be read, or is not JSON.
    """
    path = folder / CONFIG
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        detail = describe_other_file(path) or short_detail(error)
        raise CheckpointError(f"{path} is not a configuration of cn_clip's CLIP: {detail}") from None


def weights_in(folder: Path, official_filename: str | None, *, pt_first: bool) -> tuple[Path, ...]:
    """Choose the weights in a folder; a git-lfs pointer is chosen only if there is nothing else.

    Args:
        folder: A folder with weights and ``config.json``.
        official_filename: Name of the official ``.pt`` file of this architecture, which takes precedence.
        pt_first: Whether to prefer a ``.pt`` file to ``model.safetensors`` and ``pytorch_model.bin``.

    Returns:
        The file; for weights in several files the index, if there is one, and then all files.

    Raises:
        CheckpointError: There are no weights, several ``.pt`` files, or not all files of a model.
    """
    pt_files = _pt_files(folder, official_filename)
    # Without an index, the first of several files stands for all of them.
    others = [folder / name for name in _TRANSFORMERS_FILES if (folder / name).is_file()]
    others += [path for path in sorted(folder.glob("*-00001-of-*")) if _SHARD.fullmatch(path.name)]
    preferred = [] if pt_first else [path for path in others if path.name == _TRANSFORMERS_FILES[0]]
    candidates = [*preferred, *pt_files, *others]
    if not candidates:
        raise CheckpointError(
            f"{folder} must hold model.safetensors, pytorch_model.bin or exactly one .pt file; found: none"
        )
    candidates = [path for path in candidates if not is_lfs_pointer(path)] or candidates
    choices = [path for path in pt_files if path in candidates]
    if candidates[0] in choices and len(choices) > 1:
        names = short_detail(", ".join(path.name for path in choices))
        raise CheckpointError(
            f"{folder} must hold model.safetensors or exactly one .pt file; found: {names}; give the path of one"
        )
    return all_files(candidates[0])


def all_files(path: Path) -> tuple[Path, ...]:
    """Return the files that belong to a weight file: itself, or an index and the files that it lists.

    Args:
        path: A weight file, one of several files of a model (``…-00001-of-00002.bin``), or their index.

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
        return _existing([path.with_name(name) for name in names])
    if not path.name.endswith(".index.json"):
        return (path,)
    try:
        names = sorted(set(json.loads(path.read_text(encoding="utf-8-sig"))["weight_map"].values()))
        if any(Path(name).name != name for name in names):
            raise ValueError("it names files in other folders")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        detail = describe_other_file(path) if isinstance(error, json.JSONDecodeError) else None
        detail = detail or f"{type(error).__name__}: {short_detail(error)}; fetch it again"
        raise CheckpointError(f"{path} is not an index of files of weights: {detail}") from None
    return (path, *_existing([path.with_name(name) for name in names]))


def read_weights_file(path: Path) -> Mapping[str, Any]:
    """Return the content of a ``.safetensors`` file or a file of ``torch.save`` (``.pt``, ``.bin``, ``.ckpt``).

    Nothing in the file is executed: ``torch.load`` is called with ``weights_only=True``.

    Args:
        path: The file.

    Returns:
        Tensors by name, possibly inside other mappings.

    Raises:
        CheckpointError: The file cannot be read, is damaged, or holds more than tensors.
    """
    try:
        return _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or short_detail(error)}") from None


def require_complete(path: Path) -> None:
    """Check that a weight file was not cut short, by its header or directory and without reading all of it.

    Raises:
        CheckpointError: The file was cut short.
        OSError: The file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    message = f"{path} is damaged or cut short; fetch it again"
    if _is_safetensors(path):
        try:
            with safe_open(path, framework="numpy"):
                return
        except SafetensorError:
            raise CheckpointError(message) from None
    if _head(path).startswith(b"PK") and not zipfile.is_zipfile(path):
        raise CheckpointError(message)


def is_lfs_pointer(path: Path) -> bool:
    """Return whether a file is the text that git-lfs puts in place of a file that was not fetched."""
    return _head(path).startswith(_LFS_POINTER)


def describe_other_file(path: Path) -> str | None:
    """Return what a file is that is neither weights nor a configuration, and what to do.

    Args:
        path: A file that could not be parsed.

    Returns:
        A description, or None for a binary file.
    """
    head = _head(path)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        return "it is empty; fetch it again"
    if head.startswith(_LFS_POINTER):
        return f"it is a git-lfs pointer; run git lfs pull in {path.parent}, or fetch it again"
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<body", b"<!--")):
        return (
            "it is a web page (HTML), saved in place of the file; download it again, "
            f"from a mirror such as {HUGGING_FACE_MIRROR} if need be"
        )
    text = _as_text(head)
    return f"it is a text that begins with {short_detail(text, 60)!r}; fetch it again" if text else None


def _pt_files(folder: Path, official_filename: str | None) -> list[Path]:
    if official_filename and (folder / official_filename).is_file():
        return [folder / official_filename]
    files = [path for path in sorted(folder.glob("*.pt")) if path.is_file() and not _TRAINER_FILES.fullmatch(path.name)]
    official = [path for path in files if path.name.startswith("clip_cn_")]
    return official if len(official) == 1 else files


def _existing(paths: list[Path]) -> tuple[Path, ...]:
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        names = short_detail(", ".join(missing))
        raise CheckpointError(f"{paths[0].parent} lacks files of the weights, fetch them: {names}")
    return tuple(paths)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""


def _as_text(head: bytes) -> str | None:
    # The last character may be incomplete.
    text = head.decode("utf-8", errors="replace").rstrip("\ufffd")
    return text if "\ufffd" not in text and "".join(text.split()).isprintable() else None


def _is_safetensors(path: Path) -> bool:
    """Return whether a file has the format, by its content rather than its name, because files get renamed."""
    head = _head(path)
    if head.startswith((b"PK", b"\x80")):
        return False
    # The file starts with the length of the header in eight bytes, and the header, which is JSON.
    return path.suffix == ".safetensors" or (head[7:9] == b"\0{")


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        detail = describe_other_file(path) or f"{short_detail(error)}; fetch it again"
        raise CheckpointError(f"{path} is not a safetensors file: {detail}") from None


def _read_torch(path: Path) -> Mapping[str, Any]:
    import torch

    if _is_torchscript(path):
        raise CheckpointError(_pickled_model_message(path, "TorchScript"))
    try:
        # An open file, because torch chooses the format of a path by its suffix.
        with path.open("rb") as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        # UnpicklingError, whose message advises to load the file unsafely, or any error of a parser that is given a
        # file of another type.
        raise CheckpointError(_refusal_message(path, error)) from None
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} is not a checkpoint: it holds a {type(content).__name__}")
    return content


def _refusal_message(path: Path, error: Exception) -> str:
    lead = f"{path} is damaged or holds more than tensors"
    if detail := describe_other_file(path):
        return f"{lead}: {detail}"
    strings = {argument for _, argument in _opcodes(path) if isinstance(argument, str)}
    others = [name for name in _pickled_classes(path) if name.rpartition(".")[0] not in _TENSOR_MODULES]
    if others and strings >= _MODULE_ATTRIBUTES:
        return _pickled_model_message(path, others[0])
    if others:
        found = short_detail(", ".join(dict.fromkeys(others)), 100)
        return f"{lead} ({found}); it was not loaded: save the model's state_dict() alone, or fetch it again"
    if isinstance(error, pickle.UnpicklingError):
        return f"{lead}; it was not loaded, fetch it again"
    return f"{lead} ({short_detail(f'{type(error).__name__}: {error}', 160)}); it was not loaded, fetch it again"


def _pickled_model_message(path: Path, class_name: str) -> str:
    return (
        f"{path} holds a whole pickled model ({class_name}), which could run any code; it was not loaded: save its "
        "state_dict() where it was made, torch.save(model.state_dict(), file)"
    )


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _pickled_classes(path: Path) -> Iterator[str]:
    """Yield the names of classes and functions in a pickle, in order, without unpickling it."""
    strings: list[str] = []
    for opcode, argument in _opcodes(path):
        if opcode in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif opcode == "STACK_GLOBAL":
            yield ".".join(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)


def _opcodes(path: Path) -> Iterator[tuple[str, object]]:
    """Yield the opcodes and arguments of the pickle in a file of ``torch.save``, up to where it is damaged."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
                if name is not None:
                    with archive.open(name) as file:
                        yield from _opcodes_of(file)
        else:
            # The format before torch 1.6: three other pickles (magic number, version, system) precede the object.
            with path.open("rb") as file:
                for _ in range(4):
                    last = list(_opcodes_of(file))
                yield from last
    except Exception:
        return


def _opcodes_of(file: IO[bytes]) -> Iterator[tuple[str, object]]:
    for opcode, argument, position in pickletools.genops(file):
        yield opcode.name, argument
        if position is not None and position > _PICKLE_BYTES:
            return
