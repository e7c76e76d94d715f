"""The encoders of cn_clip as torch modules for the conversion to OpenVINO. Importing this file loads torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt
import torch
from cn_clip.clip.model import VisualTransformer
from torch.nn import functional

from llama_index_mm_zhipu.embedding.backends import Vectors

if TYPE_CHECKING:
    from cn_clip.clip.model import CLIP, ResidualAttentionBlock

Encoder = Literal["image", "text"]


class UnitEncoder(torch.nn.Module):
    """One encoder with the division by the length, which OpenVINO computes in fp32."""

    def __init__(self, model: CLIP, encoder: Encoder) -> None:
        """Keep the whole model, of which one encoder is used."""
        super().__init__()
        self.model = model
        self._encoder = encoder

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the unit vectors of preprocessed images or of tokens."""
        features = self._features(batch)
        unit: torch.Tensor = features / features.norm(dim=-1, keepdim=True)
        return unit

    def _features(self, batch: torch.Tensor) -> torch.Tensor:
        if self._encoder == "image" and isinstance(self.model.visual, VisualTransformer):
            return _transformed(self.model.visual, batch)
        return _cn_clip_features(self.model, self._encoder, batch)


def reference_vectors(model: CLIP, encoder: Encoder, batch: npt.NDArray[Any]) -> Vectors:
    """Return the unit vectors of preprocessed images or of tokens as cn_clip computes them."""
    with torch.inference_mode():
        features = _cn_clip_features(model, encoder, torch.from_numpy(batch))
        vectors: Vectors = (features / features.norm(dim=-1, keepdim=True)).numpy()
    return vectors


def _cn_clip_features(model: CLIP, encoder: Encoder, batch: torch.Tensor) -> torch.Tensor:
    features: torch.Tensor = model.encode_image(batch) if encoder == "image" else model.encode_text(batch)
    return features


def _transformed(visual: VisualTransformer, pixels: torch.Tensor) -> torch.Tensor:
    """Compute ``visual(pixels)`` with the images, not the patches, as the first axis.

    OpenVINO otherwise copies queries, keys and values several times in each layer, which takes a fifth of a pass of
    eight images in bf16.
    """
    patches = visual.conv1(pixels).flatten(2).transpose(1, 2)
    # shape[0] stays variable when the module is traced, len() does not.
    first = visual.class_embedding.expand(pixels.shape[0], 1, -1)
    states = visual.ln_pre(torch.cat([first, patches], dim=1) + visual.positional_embedding)
    for block in visual.transformer.resblocks:
        states = states + _attention(block, block.ln_1(states))
        states = states + block.mlp(block.ln_2(states))
    features: torch.Tensor = visual.ln_post(states[:, 0]) @ visual.proj
    return features


def _attention(block: ResidualAttentionBlock, states: torch.Tensor) -> torch.Tensor:
    """Compute the attention of a block by three products rather than one, whose result would have to be split."""
    attention = block.attn
    batch, length, width = states.shape
    heads = attention.num_heads
    query, key, value = (
        functional.linear(states, weight, bias).view(batch, length, heads, width // heads).transpose(1, 2)
        for weight, bias in zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
    )
    attended = functional.scaled_dot_product_attention(query, key, value)
    joined: torch.Tensor = attention.out_proj(attended.transpose(1, 2).reshape(batch, length, width))
    return joined
