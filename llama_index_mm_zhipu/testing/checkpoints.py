"""Chinese-CLIP checkpoints with random weights, for tests of code that embeds images or texts."""

from __future__ import annotations

import json
from pathlib import Path

from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint
from llama_index_mm_zhipu.embedding.chinese_clip.official_models import OFFICIAL_MODELS

TINY = "tiny"

# Arguments of cn_clip's CLIP for a model that is built and run in milliseconds, with the vocabulary of its tokenizer.
_TINY_CONFIG = {
    "embed_dim": 32,
    "image_resolution": 32,
    "vision_layers": 2,
    "vision_width": 64,
    "vision_patch_size": 16,
    "vocab_size": 21128,
    "text_attention_probs_dropout_prob": 0.0,
    "text_hidden_act": "gelu",
    "text_hidden_dropout_prob": 0.0,
    "text_hidden_size": 64,
    "text_initializer_range": 0.02,
    "text_intermediate_size": 128,
    "text_max_position_embeddings": 64,
    "text_num_attention_heads": 2,
    "text_num_hidden_layers": 2,
    "text_type_vocab_size": 2,
}


def tiny_checkpoint(path: str | Path, architecture: str = TINY, *, seed: int = 0) -> Path:
    """Write a checkpoint with random weights in the format of the official ones: fp16, names prefixed ``module.``.

    Args:
        path: Directory to write to; created if missing.
        architecture: ``"tiny"`` for a model of 1.5 M parameters, or the name of an official model, which is written in
            full size under its official file name (``ViT-B-16``: 376 MB).
        seed: Seed of the random weights.

    Returns:
        A path for ``ChineseClipEmbedding(model_name=…)``: the directory of a tiny model, the file of an official one.
        The latter also loads by name, with ``download_root=path``.

    Raises:
        ValueError: The architecture is unknown.

    Examples:
        >>> from llama_index_mm_zhipu.testing import tiny_checkpoint
        >>> embed_model = ChineseClipEmbedding(tiny_checkpoint("tiny"), backend="torch")
        >>> len(embed_model.get_text_embedding("飞机"))
        32
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    if architecture == TINY:
        (folder / "config.json").write_text(json.dumps(_TINY_CONFIG, indent=2), encoding="utf-8")
        _write_random_weights(folder / "model.pt", _TINY_CONFIG, seed)
        return folder
    if architecture not in OFFICIAL_MODELS:
        raise ValueError(f"unknown architecture {architecture!r}: use {TINY!r} or one of {', '.join(OFFICIAL_MODELS)}")
    file = folder / OFFICIAL_MODELS[architecture].filename
    file.touch()
    _write_random_weights(file, find_checkpoint(str(file)).config, seed)
    return file


def _write_random_weights(file: Path, config: dict[str, object], seed: int) -> None:
    import torch
    from cn_clip.clip.model import CLIP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(**config)
    weights = {f"module.{name}": tensor.half() for name, tensor in model.state_dict().items()}
    hidden = model.bert_config.hidden_size
    # The published files contain a pooler that CLIP does not use.
    weights["module.bert.pooler.dense.weight"] = torch.zeros(hidden, hidden).half()
    weights["module.bert.pooler.dense.bias"] = torch.zeros(hidden).half()
    torch.save({"epoch": 0, "state_dict": weights}, file)
