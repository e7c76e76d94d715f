"""Find the weights in the files of different trainers, and bring them into the form of cn_clip.

Trainers wrap state dicts in other mappings and add prefixes to names. transformers has its own configuration and tensor
names for the same architecture. Whatever does not fit the model is named in the error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from llama_index_mm_zhipu.embedding.backends import CheckpointError, short_detail

if TYPE_CHECKING:
    import torch

Tensors: TypeAlias = "dict[str, torch.Tensor]"
"""A state dict: tensors by name."""

# Keys under which trainers save the weights, most common first. Averaged weights (EMA) beside them are not used.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_MAX_DEPTH = 4
# Parts that DistributedDataParallel, torch.compile, FSDP, activation checkpointing and Fabric insert into names.
_INSERTED = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
# First parts of the names of Chinese-CLIP, in cn_clip and in transformers.
_ROOTS = {"visual", "bert", "vision_model", "text_model", "visual_projection", "text_projection", "logit_scale"}
_UNUSED = ("bert.pooler.", "text_model.pooler.")
_MAX_SHOWN = 3

Encoder = Literal["text", "vision"]

MODEL_TYPE = "chinese_clip"

# Defaults of transformers' ChineseCLIPTextConfig and ChineseCLIPVisionConfig, which files leave out.
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

# Values that are constants in cn_clip's code.
_FIXED: dict[Encoder, dict[str, Any]] = {
    "text": {
        "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    },
    "vision": {"layer_norm_eps": 1e-5, "num_channels": 3, "hidden_act": "quick_gelu"},
}
# cn_clip's names of activations of the text encoder, by the names in transformers.
_TEXT_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_new",
    "relu": "relu",
    "silu": "swish",
    "swish": "swish",
}
_HEAD_WIDTH = 64
# cn_clip's tokenizer makes ids below the first number, in sequences no longer than the second.
_MIN_TEXT_SIZES = {"vocab_size": 21128, "max_position_embeddings": 52}

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


def find_state_dict(content: Mapping[Any, Any], path: Path) -> Tensors:
    """Return the weights of a Chinese-CLIP in the content of a checkpoint.

    Args:
        content: The tensors by name, or nested mappings that contain them.
        path: The file, for messages.

    Returns:
        The tensors by their names in the file.

    Raises:
        CheckpointError: There are no such tensors, or several models that are equally likely.
    """
    found = [(_known_names(tensors), keys, tensors) for keys, tensors in _mappings_of_tensors(content)]
    max_known = max((known for known, _, _ in found), default=0)
    if max_known:
        best = [(keys, tensors) for known, keys, tensors in found if known == max_known]
        usual = [entry for entry in best if not entry[0] or entry[0][-1] in _WRAPPERS]
        if len(best) > 1 and not usual:
            names = short_detail(", ".join(".".join(keys) for keys, _ in best))
            raise CheckpointError(f"{path} holds several models ({names}): save the state dict of one of them alone")
        return (usual or best)[0][1]
    # The names are those of another model. The tensors are returned all the same: mismatch() will list what is missing.
    for keys, tensors in _mappings_of_tensors(content):
        if keys in ((), ("state_dict",)):
            return tensors
    names = short_detail(", ".join(map(str, content)))
    raise CheckpointError(f"{path} holds no state dict of tensors, by itself or as state_dict; found: {names}")


def clean_names(state: Tensors, path: Path) -> dict[str, str]:
    """Remove prefixes and parts that trainers add to the names of tensors, and leave out tensors that are not used.

    Args:
        state: The tensors by their names in the file.
        path: The file, for messages.

    Returns:
        The name in the file for each name in the model.

    Raises:
        CheckpointError: Two tensors have the same name in the model.
    """
    split = {name: _split(name) for name in state}
    prefixes = Counter(prefix for prefix, rest in split.values() if rest)
    most_common_prefix = prefixes.most_common(1)[0][0] if prefixes else ""
    cleaned: dict[str, str] = {}
    for name, (prefix, rest) in split.items():
        clean = rest if rest and prefix in ("", most_common_prefix) else name
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
    """Describe how tensors differ from those of a model: missing, unexpected, or with other shapes; a few of each.

    Args:
        found: Shapes by name.
        expected: Shapes by name; the batch counters of batch norms may be missing.
        missing: Names of missing tensors, if the file uses other names; None compares ``found`` with ``expected``.

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
    return "; ".join(f"{difference} {_first_names(names)}" for difference, names in differences if names) or None


def first_not_finite(state: Tensors, names: Mapping[str, str]) -> str | None:
    """Describe the first tensor with NaN, Inf, or numbers too large for fp16, the dtype of loaded weights.

    Args:
        state: The tensors by their names in the file.
        names: The names in the file that are used, by names in the model.

    Returns:
        The problem and the tensor's name in the file, or None if all are finite.
    """
    import torch

    used = set(names.values())
    limit = torch.finfo(torch.float16).max
    for name, tensor in state.items():
        if name not in used or not tensor.is_floating_point():
            continue
        values = tensor.float()
        for problem, bad in (("NaN", values.isnan()), ("Inf", values.isinf())):
            if count := int(bad.sum()):
                return f"{problem} in {name} ({count} of {tensor.numel()} values)"
        if tensor.numel() and float(values.abs().max()) > limit:
            return f"numbers beyond the range of fp16 in {name}"
    return None


def is_finite(tensor: torch.Tensor) -> bool:
    """Return whether a tensor contains neither NaN nor Inf."""
    import torch

    if not tensor.is_floating_point() or not tensor.numel():
        return True
    # Five times as fast as isfinite().all(). If there is a NaN, both minimum and maximum are NaN.
    minimum, maximum = torch.aminmax(tensor)
    return bool(torch.isfinite(minimum) & torch.isfinite(maximum))


def is_transformers_config(config: object) -> bool:
    """Return whether the content of a ``config.json`` is a configuration of transformers, for any model."""
    return (
        isinstance(config, Mapping)
        and not {"embed_dim", "image_resolution"} & set(config)
        and bool(
            {"model_type", "architectures", "text_config", "vision_config", "text_config_dict", "vision_config_dict"}
            & set(config)
        )
    )


def is_transformers_state(names: Iterable[str]) -> bool:
    """Return whether tensors have the names of transformers' ``ChineseCLIPModel``."""
    return any(name.startswith(("vision_model.", "text_model.", "visual_projection.")) for name in names)


def clip_config(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Convert a configuration of transformers' ``ChineseCLIPModel`` to one of cn_clip.

    Args:
        config: Content of ``config.json``.
        path: The file, for messages.

    Returns:
        Keyword arguments of ``cn_clip.clip.model.CLIP``.

    Raises:
        CheckpointError: It belongs to another model, or has a value that cn_clip cannot represent.
    """
    _require_chinese_clip(config, path)
    text, vision = _encoder_config(config, "text", path), _encoder_config(config, "vision", path)
    width = _positive_int(vision, "vision_config.hidden_size", path)
    head_width = _head_width(vision, "vision", path)
    _head_width(text, "text", path)
    if _positive_int(vision, "vision_config.intermediate_size", path) != 4 * width:
        raise _unsupported(path, "vision_config.intermediate_size", vision["intermediate_size"], str(4 * width))
    if text["hidden_act"] not in _TEXT_ACTIVATIONS:
        raise _unsupported(path, "text_config.hidden_act", text["hidden_act"], ", ".join(_TEXT_ACTIVATIONS))
    for name, minimum in _MIN_TEXT_SIZES.items():
        if _positive_int(text, f"text_config.{name}", path) < minimum:
            raise _unsupported(path, f"text_config.{name}", text[name], f"{minimum} or more")
    projection = {"projection_dim": config.get("projection_dim", _PROJECTION_DIM)}
    translated = {
        "embed_dim": _positive_int(projection, "projection_dim", path),
        "image_resolution": _positive_int(vision, "vision_config.image_size", path),
        "vision_layers": _positive_int(vision, "vision_config.num_hidden_layers", path),
        "vision_width": width,
        "vision_patch_size": _positive_int(vision, "vision_config.patch_size", path),
        "vocab_size": text["vocab_size"],
        "text_attention_probs_dropout_prob": text["attention_probs_dropout_prob"],
        "text_hidden_act": _TEXT_ACTIVATIONS[text["hidden_act"]],
        "text_hidden_dropout_prob": text["hidden_dropout_prob"],
        "text_hidden_size": text["hidden_size"],
        "text_initializer_range": text["initializer_range"],
        "text_intermediate_size": _positive_int(text, "text_config.intermediate_size", path),
        "text_max_position_embeddings": text["max_position_embeddings"],
        "text_num_attention_heads": text["num_attention_heads"],
        "text_num_hidden_layers": _positive_int(text, "text_config.num_hidden_layers", path),
        "text_type_vocab_size": _positive_int(text, "text_config.type_vocab_size", path),
    }
    return translated if head_width == _HEAD_WIDTH else {**translated, "vision_head_width": head_width}


def cn_clip_tensors(state: Tensors, expected: Iterable[str]) -> tuple[Tensors, list[str]]:
    """Convert the tensors of ``ChineseCLIPModel``: rename them, join queries, keys and values, transpose projections.

    Args:
        state: Tensors by their names in transformers.
        expected: Names of all tensors of the model in cn_clip.

    Returns:
        Tensors by their names in cn_clip, with unexpected tensors under their own names; and the names in transformers
        of the missing tensors.
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
        # Contiguous, as after training: OpenVINO and oneDNN would copy a transposed matrix in each pass.
        joined = torch.cat(parts) if len(parts) > 1 else parts[0]
        tensors[name] = joined.T.contiguous() if name in _TRANSPOSED and joined.ndim == 2 else joined
    return {**tensors, **unused}, missing


def transformers_names(name: str) -> tuple[str, ...]:
    """Return the names in transformers of the tensors that make up one tensor of cn_clip.

    Args:
        name: Name of a tensor in cn_clip.

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
            parameter = rest.removeprefix("attn.in_proj_")
            return tuple(f"{layer}self_attn.{part}_proj.{parameter}" for part in "qkv")
        module, parameter = rest.rsplit(".", 1)
        return (f"{layer}{_VISION_MODULES.get(module, module)}.{parameter}",)
    if name.startswith("visual."):
        rest = name.removeprefix("visual.")
        module, _, parameter = rest.rpartition(".")
        return ("vision_model." + _VISION_TENSORS.get(rest, f"{_VISION_MODULES.get(module, module)}.{parameter}"),)
    return (name,)


def _mappings_of_tensors(content: object, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Tensors]]:
    """Yield all nested mappings that contain tensors by name, with the keys that lead to them, common ones first."""
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
    """Return the prefix and the name in the model, which is empty for names of another model."""
    parts = [part for part in name.split(".") if part not in _INSERTED]
    root = next((index for index, part in enumerate(parts) if part in _ROOTS), None)
    if root is None:
        return "", ""
    return ".".join(part for part in parts[:root] if part != "model"), ".".join(parts[root:])


def _first_names(names: list[str]) -> str:
    rest = f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else ""
    return short_detail(", ".join(names[:_MAX_SHOWN]), 240) + rest


def _require_chinese_clip(config: Mapping[str, Any], path: Path) -> None:
    model_type = config.get("model_type", MODEL_TYPE)
    if model_type != MODEL_TYPE:
        raise CheckpointError(
            f"{path} is of another type of model: model_type is {model_type!r}, not {MODEL_TYPE!r}; give the folder of "
            "a Chinese-CLIP"
        )
    if config.get("quantization_config"):
        raise _unsupported(path, "quantization_config", config["quantization_config"], "weights that are not quantized")


def _encoder_config(config: Mapping[str, Any], encoder: Encoder, path: Path) -> dict[str, Any]:
    """Return the configuration of an encoder with transformers' defaults; refuse values that cn_clip cannot have."""
    field = f"{encoder}_config"
    # Old files have both. As in transformers, *_config_dict with the defaults takes precedence over *_config.
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
    width = _positive_int(encoder_config, f"{encoder}_config.hidden_size", path)
    heads = _positive_int(encoder_config, f"{encoder}_config.num_attention_heads", path)
    if width % heads:
        raise _unsupported(path, f"{encoder}_config.num_attention_heads", heads, f"a divisor of {width}")
    return width // heads


def _positive_int(values: Mapping[str, Any], field: str, path: Path) -> int:
    """Return a number of a configuration; sizes of squares may be given as a pair of equal numbers."""
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
