"""An independent Chinese-CLIP as reference: Hugging Face's implementation with the weights of a cn_clip checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cn_clip.clip
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import BertTokenizer, ChineseCLIPConfig, ChineseCLIPImageProcessor, ChineseCLIPModel

Weights = dict[str, torch.Tensor]

VOCABULARY = str(Path(cn_clip.clip.__file__).parent / "vocab.txt")

_LAYER_NAMES = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_VISION_NAMES = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}


# The values of the published configurations that differ from transformers' defaults.
TEXT_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24}
VISION_LARGE = {**TEXT_LARGE, "patch_size": 14}
VISION_HUGE = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 16,
    "num_hidden_layers": 32,
    "patch_size": 14,
}
FULL: dict[str, dict[str, Any]] = {
    "ViT-B-16": {"projection_dim": 512, "vision_config": {"patch_size": 16}},
    "ViT-L-14": {"projection_dim": 768, "vision_config": VISION_LARGE},
    "ViT-L-14-336": {"projection_dim": 768, "vision_config": {**VISION_LARGE, "image_size": 336}},
    "ViT-H-14": {"projection_dim": 1024, "vision_config": VISION_HUGE, "text_config": TEXT_LARGE},
}
for _config in FULL.values():
    _config |= {"model_type": "chinese_clip", "text_config": {"vocab_size": 21128, **_config.get("text_config", {})}}


def reference_model(config: dict[str, Any], weights: Weights) -> ChineseCLIPModel:
    """Return Hugging Face's model with a configuration and weights of cn_clip (official names, any dtype)."""
    width = config["vision_width"]
    model = ChineseCLIPModel(
        ChineseCLIPConfig(
            text_config={
                "vocab_size": config["vocab_size"],
                "hidden_size": config["text_hidden_size"],
                "num_hidden_layers": config["text_num_hidden_layers"],
                "num_attention_heads": config["text_num_attention_heads"],
                "intermediate_size": config["text_intermediate_size"],
                "max_position_embeddings": config["text_max_position_embeddings"],
            },
            vision_config={
                "hidden_size": width,
                "intermediate_size": 4 * width,
                "num_hidden_layers": config["vision_layers"],
                "num_attention_heads": width // 64,
                "image_size": config["image_resolution"],
                "patch_size": config["vision_patch_size"],
                "hidden_act": "quick_gelu",
            },
            projection_dim=config["embed_dim"],
        )
    )
    model.load_state_dict(_renamed(weights), strict=True)
    return model.eval().float()


def image_vectors(model: ChineseCLIPModel, images: Sequence[Any], side: int) -> np.ndarray:
    """Return unit vectors of images, with Hugging Face's own preprocessing."""
    processor = ChineseCLIPImageProcessor(size={"height": side, "width": side}, do_center_crop=False)
    with torch.inference_mode():
        return _unit(model.get_image_features(**processor(images=list(images), return_tensors="pt")))


def text_vectors(model: ChineseCLIPModel, texts: Sequence[str]) -> np.ndarray:
    """Return unit vectors of texts, with Hugging Face's own tokenizer, padded to 52 positions."""
    tokenizer = BertTokenizer(VOCABULARY)
    tokens = tokenizer(list(texts), padding="max_length", max_length=52, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        return _unit(model.get_text_features(**tokens))


def assert_same_vectors(ours: Sequence[Sequence[float]], theirs: np.ndarray, min_cosine: float) -> None:
    """Check that each vector has at least this cosine with its counterpart, and is ten times farther from others."""
    vectors = np.asarray(ours)
    others = np.roll(theirs, 1, axis=0)
    assert ((vectors * theirs).sum(axis=1)).min() >= min_cosine
    assert ((vectors * others).sum(axis=1)).max() < 1 - 10 * (1 - min_cosine)


def random_model(config: dict[str, Any], *, seed: int = 0) -> ChineseCLIPModel:
    """Return Hugging Face's model for a configuration, with random weights that distinguish images and texts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ChineseCLIPModel(ChineseCLIPConfig(**config))
        for name, parameter in model.named_parameters():
            if "norm" in name.lower():
                parameter.data += 0.1 * torch.randn_like(parameter)
            elif parameter.ndim > 1:
                parameter.data.normal_(std=parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.05)
            elif parameter.ndim == 1:
                parameter.data.normal_(std=0.1)
    return model.eval()


def small_config(name: str) -> dict[str, Any]:
    """Return the configuration of an architecture, reduced to two layers and two heads of the original width."""
    full = json.loads(json.dumps(FULL[name]))
    for encoder in ("text_config", "vision_config"):
        config = full[encoder]
        width = config.get("hidden_size", 768) // config.get("num_attention_heads", 12) * 2
        config |= {
            "hidden_size": width,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "intermediate_size": 4 * width,
        }
    full["vision_config"]["image_size"] = full["vision_config"].get("image_size", 224) // 4
    return full


def write_folder(folder: Path, config: dict[str, Any], *, file: str = "pytorch_model.bin", seed: int = 0) -> Any:
    """Write the folder of a model like a clone of its repository, and return transformers' model."""
    folder.mkdir(parents=True, exist_ok=True)
    model = random_model(config, seed=seed)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if file.endswith(".safetensors"):
        save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / file)
    else:
        torch.save(model.state_dict(), folder / file)
    return model


def _unit(features: Any) -> np.ndarray:
    tensor = getattr(features, "pooler_output", features)
    return (tensor / tensor.norm(dim=-1, keepdim=True)).numpy()


def _renamed(weights: Weights) -> Weights:
    renamed: Weights = {}
    for official_name, tensor in weights.items():
        name = official_name.removeprefix("module.")
        if name.startswith("bert.pooler"):
            continue
        if name.startswith("bert."):
            renamed["text_model." + name.removeprefix("bert.")] = tensor
        elif name == "text_projection":
            renamed["text_projection.weight"] = tensor.T.contiguous()
        elif name == "visual.proj":
            renamed["visual_projection.weight"] = tensor.T.contiguous()
        elif name.startswith("visual.transformer.resblocks."):
            renamed.update(_layer(name.removeprefix("visual.transformer.resblocks."), tensor))
        elif name.startswith("visual."):
            renamed["vision_model." + _VISION_NAMES[name.removeprefix("visual.")]] = tensor
        else:
            renamed[name] = tensor
    return renamed


def _layer(name: str, tensor: torch.Tensor) -> Weights:
    number, rest = name.split(".", 1)
    prefix = f"vision_model.encoder.layers.{number}."
    if rest.startswith("attn.in_proj_"):
        kind = rest.removeprefix("attn.in_proj_")
        return {
            f"{prefix}self_attn.{part}_proj.{kind}": chunk.contiguous()
            for part, chunk in zip("qkv", tensor.chunk(3), strict=True)
        }
    module, kind = rest.rsplit(".", 1)
    return {f"{prefix}{_LAYER_NAMES[module]}.{kind}": tensor}
