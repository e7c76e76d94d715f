"""Find the state dict in what trainers save, clean its names, and check it against a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from llama_index_mm_zhipu.embedding.errors import CheckpointError, in_one_line

if TYPE_CHECKING:
    import torch

Tensors: TypeAlias = "dict[str, torch.Tensor]"

# Where trainers put the weights, most usual first. Averaged weights (EMA) beside them are not taken.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_MAX_DEPTH = 4
# What DistributedDataParallel, torch.compile, FSDP, activation checkpointing and Fabric put into names, at any place.
_ADDED = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
# How the names of Chinese-CLIP begin, in cn_clip and in transformers.
_ROOTS = {"visual", "bert", "vision_model", "text_model", "visual_projection", "text_projection", "logit_scale"}
_UNUSED = ("bert.pooler.", "text_model.pooler.")
_SHOWN = 3


def find_state_dict(content: Mapping[Any, Any], path: Path) -> Tensors:
    """Find the weights of a Chinese-CLIP in the content of a checkpoint.

    Args:
        content: The tensors by name, or mappings that hold them at some depth.
        path: The file, for messages.

    Returns:
        The tensors by their names in the file.

    Raises:
        CheckpointError: There is no such mapping, or several that are equally likely.
    """
    found = [(_known_names(tensors), keys, tensors) for keys, tensors in _mappings_of_tensors(content)]
    most = max((known for known, _, _ in found), default=0)
    if most:
        best = [(keys, tensors) for known, keys, tensors in found if known == most]
        usual = [entry for entry in best if not entry[0] or entry[0][-1] in _WRAPPERS]
        if len(best) > 1 and not usual:
            names = in_one_line(", ".join(".".join(keys) for keys, _ in best))
            raise CheckpointError(f"{path} holds several models ({names}): save the state dict of one of them alone")
        return (usual or best)[0][1]
    # Names of another model: what is missing will be listed.
    for keys, tensors in _mappings_of_tensors(content):
        if keys in ((), ("state_dict",)):
            return tensors
    names = in_one_line(", ".join(map(str, content)))
    raise CheckpointError(f"{path} holds no state dict of tensors, by itself or as state_dict; found: {names}")


def clean_names(state: Tensors, path: Path) -> dict[str, str]:
    """Strip what trainers put before and into the names of tensors, and leave out tensors that are not used.

    Args:
        state: The tensors by their names in the file.
        path: The file, for messages.

    Returns:
        The name in the file by the name in the model.

    Raises:
        CheckpointError: Two tensors have one name in the model.
    """
    split = {name: _split(name) for name in state}
    prefixes = Counter(prefix for prefix, rest in split.values() if rest)
    prefix_of_most = prefixes.most_common(1)[0][0] if prefixes else ""
    cleaned: dict[str, str] = {}
    for name, (prefix, rest) in split.items():
        clean = rest if rest and prefix in ("", prefix_of_most) else name
        if clean.startswith(_UNUSED) or clean.endswith("position_ids"):
            continue
        if clean in cleaned:
            raise CheckpointError(
                f"{path} holds two tensors for {clean}, {cleaned[clean]} and {name}: save the state dict of one model"
            )
        cleaned[clean] = name
    return cleaned


def mismatch(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], missing: list[str] | None = None
) -> str | None:
    """Say how tensors differ from those of a model: missing, unexpected, of another shape; a few of each.

    Args:
        found: Shapes by name.
        expected: Shapes by name; counters of batches need not be there.
        missing: Names of missing tensors where they have other names in the file; None compares ``found`` with
            ``expected``.

    Returns:
        The differences, or None if there are none.
    """
    if missing is None:
        missing = [name for name in expected if name not in found and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in found if name not in expected]
    reshaped = [
        f"{name} {list(found[name])} for {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    differences = (("missing", missing), ("unexpected", unexpected), ("of other shapes", reshaped))
    return "; ".join(f"{kind} {_some(names)}" for kind, names in differences if names) or None


def first_not_finite(state: Tensors, names: Mapping[str, str]) -> str | None:
    """Find the first tensor with NaN, with Inf, or with numbers too large for fp16, in which weights are kept.

    Args:
        state: The tensors by their names in the file.
        names: The names in the file that are used.

    Returns:
        What it holds and its name in the file, or None if all are finite.
    """
    import torch

    used = set(names.values())
    limit = torch.finfo(torch.float16).max
    for name, tensor in state.items():
        if name not in used or not tensor.is_floating_point():
            continue
        values = tensor.float()
        for kind, bad in (("NaN", values.isnan()), ("Inf", values.isinf())):
            if count := int(bad.sum()):
                return f"{kind} in {name} ({count} of {tensor.numel()} values)"
        if tensor.numel() and float(values.abs().max()) > limit:
            return f"numbers beyond the range of fp16 in {name}"
    return None


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether there is neither NaN nor Inf in a tensor."""
    import torch

    if not tensor.is_floating_point() or not tensor.numel():
        return True
    # Five times as fast as isfinite().all(); NaN comes out as both.
    least, greatest = torch.aminmax(tensor)
    return bool(torch.isfinite(least) & torch.isfinite(greatest))


def _mappings_of_tensors(content: object, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Tensors]]:
    """Yield all mappings that hold tensors by name, with the keys that lead to them, usual ones first."""
    import torch

    if not isinstance(content, Mapping) or len(keys) > _MAX_DEPTH:
        return
    tensors = {
        name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, torch.Tensor)
    }
    if tensors:
        yield keys, tensors
    for key in sorted(content, key=lambda key: _WRAPPERS.index(key) if key in _WRAPPERS else len(_WRAPPERS)):
        yield from _mappings_of_tensors(content[key], (*keys, str(key)))


def _known_names(tensors: Tensors) -> int:
    return sum(bool(_split(name)[1]) for name in tensors)


def _split(name: str) -> tuple[str, str]:
    """Split a name into a prefix and the name in the model, which is empty for names of another model."""
    parts = [part for part in name.split(".") if part not in _ADDED]
    root = next((index for index, part in enumerate(parts) if part in _ROOTS), None)
    if root is None:
        return "", ""
    return ".".join(part for part in parts[:root] if part != "model"), ".".join(parts[root:])


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return in_one_line(", ".join(names[:_SHOWN]), 240) + rest
