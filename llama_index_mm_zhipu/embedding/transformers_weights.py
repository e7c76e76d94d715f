"""Chinese-CLIP in the form of transformers: its configuration and tensors as those of cn_clip."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llama_index_mm_zhipu.embedding.errors import CheckpointError

if TYPE_CHECKING:
    from llama_index_mm_zhipu.embedding.chinese_clip.state_dicts import Tensors

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
