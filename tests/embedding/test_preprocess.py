"""Pixels are what Chinese-CLIP was trained on."""

from __future__ import annotations

from pathlib import Path

import cn_clip.clip
import numpy as np
import pytest
from PIL import Image

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding.chinese_clip.vectors import image_pixels


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "1", "CMYK", "I;16"])
def test_exact_pixels_are_those_of_cn_clip_bit_for_bit(photos: list[Path], mode: str, tmp_path: Path) -> None:
    for photo in photos:
        file = tmp_path / f"{photo.stem}.tiff"
        image = Image.open(photo).convert("I").convert("I;16") if mode == "I;16" else Image.open(photo).convert(mode)
        image.save(file)

        theirs = cn_clip.clip.image_transform(224)(Image.open(file)).numpy()

        np.testing.assert_array_equal(image_pixels(file, 224, exact=True), theirs)


def test_exact_pixels_ignore_the_orientation_as_cn_clip_does(photos: list[Path], tmp_path: Path) -> None:
    file = tmp_path / "lying.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photos[0]).save(file, exif=exif)

    theirs = cn_clip.clip.image_transform(224)(Image.open(file)).numpy()

    np.testing.assert_array_equal(image_pixels(file, 224, exact=True), theirs)
    assert np.abs(image_pixels(file, 224) - theirs).max() > 0.5


def test_fast_pixels_of_small_images_are_exact(photos: list[Path], tmp_path: Path) -> None:
    for photo in photos:
        file = tmp_path / f"{photo.stem}.png"
        Image.open(photo).resize((230, 300)).save(file)
        np.testing.assert_array_equal(image_pixels(file, 224), image_pixels(file, 224, exact=True))


def test_fast_pixels_of_large_photographs_give_the_same_vectors(
    demo_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    large = []
    for photo in photos:
        large.append(tmp_path / photo.name)
        Image.open(photo).resize((2000, 1500), Image.Resampling.LANCZOS).save(large[-1], quality=92)

    fast = np.asarray(demo_embedding.get_image_embedding_batch(large))
    exact = np.asarray(demo_embedding.model_copy(update={"exact_preprocess": True}).get_image_embedding_batch(large))

    assert (fast * exact).sum(axis=1).mean() >= 0.999
