"""The two towers of Chinese-CLIP in torch: arrays in, unit vectors out."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llama_index_mm_zhipu.embedding.checkpoint import Checkpoint, load_model

if TYPE_CHECKING:
    import torch

Vectors = npt.NDArray[np.float32]


class TorchBackend:
    """cn_clip's model on one device, in fp16 on CUDA and fp32 elsewhere.

    Attributes:
        device: Where it runs: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        embed_dim: Dimension of the vectors.
        logit_scale: The learned factor that turns cosines into logits.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto") -> None:
        self._checkpoint = checkpoint
        self.device = choose_device(device)
        model = load_model(checkpoint)
        on_cuda = self.device.startswith("cuda")
        self._model = model.to(self.device) if on_cuda else model.float().to(self.device)
        # One forward pass at a time: torch already spreads a pass over all cores.
        self._turn = threading.Lock()
        self.embed_dim = int(model.text_projection.shape[1])
        self.logit_scale = float(model.logit_scale.exp())

    def __deepcopy__(self, memo: dict[int, object]) -> TorchBackend:
        """Share the weights, which nothing changes."""
        return self

    def __reduce__(self) -> tuple[type[TorchBackend], tuple[Checkpoint, str]]:
        """Pickle the recipe, not the weights."""
        return TorchBackend, (self._checkpoint, self.device)

    def image_vectors(self, pixels: npt.NDArray[np.float32]) -> Vectors:
        """Embed preprocessed pictures of shape ``(n, 3, side, side)`` in one forward pass.

        Returns:
            Unit vectors of shape ``(n, embed_dim)``.
        """
        import torch

        with self._turn, torch.inference_mode():
            return _unit(self._model.encode_image(torch.from_numpy(pixels).to(self.device)))

    def text_vectors(self, tokens: npt.NDArray[np.int64]) -> Vectors:
        """Embed word pieces of shape ``(n, length)`` in one forward pass.

        Returns:
            Unit vectors of shape ``(n, embed_dim)``.
        """
        import torch

        with self._turn, torch.inference_mode():
            return _unit(self._model.encode_text(torch.from_numpy(tokens).to(self.device)))


def choose_device(device: str) -> str:
    """Resolve ``"auto"`` to the best device that this machine has; any other name is returned as it is."""
    import torch

    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _unit(features: torch.Tensor) -> Vectors:
    # Divided in fp32: fp16 lengths would be off by up to 1e-3.
    features = features.float()
    unit: Vectors = (features / features.norm(dim=-1, keepdim=True)).cpu().numpy()
    return unit
