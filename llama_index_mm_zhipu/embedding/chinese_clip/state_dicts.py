"""Find the state dict in what trainers save, clean its names, and check it against a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from llama_index_mm_zhipu.embedding.backends import CheckpointError, in_one_line

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


Encoder = Literal["text", "vision"]

MODEL_TYPE = "chinese_clip"

# Defaults of transformers' ChineseCLIPTextConfig and ChineseCLIPVisionConfig: files leave out what equals them.
_DEFAULTS: dict[Encoder, dict[str, Any]] = {
    "text": {
        "vocab_size": 30522,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    },
    "vision": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    },
}
_PROJECTION_DIM = 512

# What cn_clip's code fixes.
_FIXED: dict[Encoder, dict[str, Any]] = {
    "text": {
        "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    },
    "vision": {"layer_norm_eps": 1e-5, "num_channels": 3, "hidden_act": "quick_gelu"},
}
# cn_clip's name of the text encoder's activation by transformers' name.
_TEXT_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_new",
    "relu": "relu",
    "silu": "swish",
    "swish": "swish",
}
_HEAD_WIDTH = 64
# cn_clip's tokenizer gives ids below the first number, in sequences no longer than the second.
_LEAST_TEXT_SIZES = {"vocab_size": 21128, "max_position_embeddings": 52}

_VISION_TENSORS = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
}
_VISION_MODULES = {
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_LAYERS = "visual.transformer.resblocks."
_TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}


def is_transformers_config(config: object) -> bool:
    """Whether the content of a ``config.json`` is in the form of transformers, of whatever model."""
    return (
        isinstance(config, Mapping)
        and not {"embed_dim", "image_resolution"} & set(config)
        and bool(
            {"model_type", "architectures", "text_config", "vision_config", "text_config_dict", "vision_config_dict"}
            & set(config)
        )
    )


def is_transformers_state(names: Iterable[str]) -> bool:
    """Whether tensors have the names of transformers' ``ChineseCLIPModel``."""
    return any(name.startswith(("vision_model.", "text_model.", "visual_projection.")) for name in names)


def clip_config(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Translate a configuration of transformers' ``ChineseCLIPModel``.

    Args:
        config: Content of ``config.json``.
        path: The file, for messages.

    Returns:
        Keyword arguments of ``cn_clip.clip.model.CLIP``.

    Raises:
        CheckpointError: It is of another model, or has a value that cn_clip cannot represent.
    """
    kind = config.get("model_type", MODEL_TYPE)
    if kind != MODEL_TYPE:
        raise CheckpointError(
            f"{path} is of another kind of model: model_type is {kind!r}, not {MODEL_TYPE!r}; give the folder of a "
            "Chinese-CLIP"
        )
    if config.get("quantization_config"):
        raise _unsupported(path, "quantization_config", config["quantization_config"], "weights that are not quantized")
    text, vision = _encoder_config(config, "text", path), _encoder_config(config, "vision", path)
    width = _whole(vision, "vision_config.hidden_size", path)
    head_width = _head_width(vision, "vision", path)
    _head_width(text, "text", path)
    if _whole(vision, "vision_config.intermediate_size", path) != 4 * width:
        raise _unsupported(path, "vision_config.intermediate_size", vision["intermediate_size"], str(4 * width))
    if text["hidden_act"] not in _TEXT_ACTIVATIONS:
        raise _unsupported(path, "text_config.hidden_act", text["hidden_act"], ", ".join(_TEXT_ACTIVATIONS))
    for name, least in _LEAST_TEXT_SIZES.items():
        if _whole(text, f"text_config.{name}", path) < least:
            raise _unsupported(path, f"text_config.{name}", text[name], f"{least} or more")
    projection = {"projection_dim": config.get("projection_dim", _PROJECTION_DIM)}
    translated = {
        "embed_dim": _whole(projection, "projection_dim", path),
        "image_resolution": _whole(vision, "vision_config.image_size", path),
        "vision_layers": _whole(vision, "vision_config.num_hidden_layers", path),
        "vision_width": width,
        "vision_patch_size": _whole(vision, "vision_config.patch_size", path),
        "vocab_size": text["vocab_size"],
        "text_attention_probs_dropout_prob": text["attention_probs_dropout_prob"],
        "text_hidden_act": _TEXT_ACTIVATIONS[text["hidden_act"]],
        "text_hidden_dropout_prob": text["hidden_dropout_prob"],
        "text_hidden_size": text["hidden_size"],
        "text_initializer_range": text["initializer_range"],
        "text_intermediate_size": _whole(text, "text_config.intermediate_size", path),
        "text_max_position_embeddings": text["max_position_embeddings"],
        "text_num_attention_heads": text["num_attention_heads"],
        "text_num_hidden_layers": _whole(text, "text_config.num_hidden_layers", path),
        "text_type_vocab_size": _whole(text, "text_config.type_vocab_size", path),
    }
    return translated if head_width == _HEAD_WIDTH else {**translated, "vision_head_width": head_width}


def cn_clip_tensors(state: Tensors, expected: Iterable[str]) -> tuple[Tensors, list[str]]:
    """Rename the tensors of ``ChineseCLIPModel``, join queries, keys and values, and transpose projections.

    Args:
        state: Tensors by transformers' names.
        expected: cn_clip's names of all tensors of the model.

    Returns:
        Tensors by cn_clip's names, unexpected ones by the names that they have; and transformers' names of those that
        are missing.
    """
    import torch

    tensors: Tensors = {}
    unused = dict(state)
    missing: list[str] = []
    for name in expected:
        sources = transformers_names(name)
        lacking = [source for source in sources if source not in state]
        missing += lacking
        if lacking or len({state[source].shape for source in sources}) > 1:
            continue
        parts = [unused.pop(source) for source in sources]
        # Contiguous as after training: OpenVINO and oneDNN would copy a transposed matrix again and again.
        joined = torch.cat(parts) if len(parts) > 1 else parts[0]
        tensors[name] = joined.T.contiguous() if name in _TRANSPOSED and joined.ndim == 2 else joined
    return {**tensors, **unused}, missing


def transformers_names(name: str) -> tuple[str, ...]:
    """Return transformers' names of the tensors of which one tensor of cn_clip is made.

    Args:
        name: cn_clip's name of a tensor.

    Returns:
        One name, or three for the joined weights of queries, keys and values.
    """
    if name in _TRANSPOSED:
        return (_TRANSPOSED[name],)
    if name.startswith("bert."):
        return ("text_model." + name.removeprefix("bert."),)
    if name.startswith(_LAYERS):
        number, rest = name.removeprefix(_LAYERS).split(".", 1)
        layer = f"vision_model.encoder.layers.{number}."
        if rest.startswith("attn.in_proj_"):
            kind = rest.removeprefix("attn.in_proj_")
            return tuple(f"{layer}self_attn.{part}_proj.{kind}" for part in "qkv")
        module, kind = rest.rsplit(".", 1)
        return (f"{layer}{_VISION_MODULES.get(module, module)}.{kind}",)
    if name.startswith("visual."):
        rest = name.removeprefix("visual.")
        module, _, kind = rest.rpartition(".")
        return ("vision_model." + _VISION_TENSORS.get(rest, f"{_VISION_MODULES.get(module, module)}.{kind}"),)
    return (name,)


def _encoder_config(config: Mapping[str, Any], encoder: Encoder, path: Path) -> dict[str, Any]:
    """Complete the configuration of one encoder by transformers' defaults, and refuse what cn_clip fixes otherwise."""
    field = f"{encoder}_config"
    # Old files hold both; as in transformers, a *_config_dict and the defaults win over the other.
    given = config.get(f"{field}_dict")
    if given is None:
        given = config.get(field) or {}
    if not isinstance(given, Mapping):
        raise _unsupported(path, field, given, "a mapping")
    completed = {**_DEFAULTS[encoder], **given}
    for name, value in _FIXED[encoder].items():
        found = completed[name]
        same = math.isclose(found, value) if isinstance(value, float) and _is_number(found) else found == value
        if not same:
            raise _unsupported(path, f"{field}.{name}", found, repr(value))
    return completed


def _head_width(encoder_config: Mapping[str, Any], encoder: Encoder, path: Path) -> int:
    width = _whole(encoder_config, f"{encoder}_config.hidden_size", path)
    heads = _whole(encoder_config, f"{encoder}_config.num_attention_heads", path)
    if width % heads:
        raise _unsupported(path, f"{encoder}_config.num_attention_heads", heads, f"a divisor of {width}")
    return width // heads


def _whole(values: Mapping[str, Any], field: str, path: Path) -> int:
    """Return a number of a configuration; squares may be given by both sides."""
    value = found = values[field.rpartition(".")[2]]
    if isinstance(value, (list, tuple)) and len(value) == 2 and value[0] == value[1]:
        found = value[0]
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise _unsupported(path, field, value, "a whole number above 0")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _unsupported(path: Path, field: str, value: object, supported: str) -> CheckpointError:
    return CheckpointError(f"{path}: {field} is {value!r}, which cn_clip cannot represent; it takes {supported}")
