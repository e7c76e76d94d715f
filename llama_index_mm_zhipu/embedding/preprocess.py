"""Pictures to pixels, as Chinese-CLIP was trained on them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from llama_index_mm_zhipu.images import NO_URLS, ImageSource, OnTruncated, UrlRules, load_squashed, open_image

Pixels = npt.NDArray[np.float32]

# The mean and standard deviation of CLIP's training pictures, in RGB from 0 to 1 (Radford et al. 2021).
_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)

# Of each channel and each of the 256 values. In float32 and in this order of steps, as torchvision computes them.
_NORMALISED = ((np.arange(256, dtype=np.float32) / np.float32(255))[None] - _MEAN[:, None]) / _STD[:, None]


def picture_pixels(
    source: ImageSource,
    side: int,
    *,
    exact: bool = False,
    urls: UrlRules = NO_URLS,
    on_truncated: OnTruncated = "warn",
) -> Pixels:
    """Squash a picture to a square and normalise it.

    Args:
        source: A picture in any form that ``images.load_image`` takes.
        side: Side of the square in pixels.
        exact: Give cn_clip's pixels bit for bit: whole pictures are decoded, and as there EXIF orientation is ignored,
            transparency dropped, 16-bit greys clipped, and palettes resized to the nearest pixel.
        urls: Which addresses may be fetched.
        on_truncated: What to do with files that lack their end, as of ``images.load_image``.

    Returns:
        Array of shape ``(3, side, side)``.

    Raises:
        ImageError: There is no such picture, or it cannot be decoded.
    """
    if not exact:
        return normalised(load_squashed(source, side, urls=urls, on_truncated=on_truncated))
    with open_image(source, urls=urls, on_truncated=on_truncated) as image:
        return normalised(image.resize((side, side), Image.Resampling.BICUBIC).convert("RGB"))


def normalised(image: Image.Image) -> Pixels:
    """Return the channels of an RGB picture, each with mean 0 and deviation 1 over CLIP's training pictures."""
    values = np.asarray(image)
    return np.stack([_NORMALISED[channel][values[..., channel]] for channel in range(3)])
