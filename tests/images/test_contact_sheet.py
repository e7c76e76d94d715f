"""Contact sheets show every image under its number and stay within the size limit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageChops

from llama_index_mm_zhipu.images.loading import contact_sheet

COLOURS = ["red", "green", "blue", "orange", "purple", "brown", "navy"]


@pytest.mark.parametrize("count", range(1, 8))
def test_every_image_is_shown_whole_and_in_its_own_size(count: int) -> None:
    images = [Image.new("RGB", (60, 40), colour) for colour in COLOURS[:count]]

    sheet = contact_sheet(images, range(1, count + 1))

    counted = {colour: number for number, colour in sheet.getcolors(1 << 24)}  # type: ignore[misc]
    assert all(counted[image.getpixel((0, 0))] == 60 * 40 for image in images)


def test_images_are_in_reading_order() -> None:
    images = [Image.new("RGB", (60, 40), colour) for colour in COLOURS[:5]]
    sheet = contact_sheet(images, range(1, 6))
    boxes = [_box_of(sheet, image.getpixel((0, 0))) for image in images]
    tops, lefts = [box[1] for box in boxes], [box[0] for box in boxes]
    assert tops[0] == tops[1] == tops[2] < tops[3] == tops[4]
    assert lefts[0] < lefts[1] < lefts[2]
    assert (lefts[0], lefts[1]) == (lefts[3], lefts[4])


def test_each_image_has_its_number_above_it() -> None:
    image = Image.new("RGB", (200, 100), "red")
    one, two, twelve = (contact_sheet([image], [number]) for number in (1, 2, 12))
    top = _box_of(one, (255, 0, 0))[1]
    for left, right in ((one, two), (two, twelve), (one, twelve)):
        differing = ImageChops.difference(left, right).getbbox()
        assert differing is not None
        # Digits of at least 12 pixels, and nothing but digits differs.
        assert differing[3] - differing[1] >= 12
        assert differing[3] <= top


@pytest.mark.parametrize(
    ("sizes", "max_side"),
    [([(3000, 2000)] * 4, 4096), ([(6000, 10)] * 9, 6000), ([(10, 6000)] * 9, 6000), ([(800, 600)] * 60, 1500)],
)
def test_sheets_stay_within_the_size_limit(sizes: list[tuple[int, int]], max_side: int) -> None:
    sheet = contact_sheet([Image.new("RGB", size, "red") for size in sizes], range(len(sizes)), max_side=max_side)
    assert max(sheet.size) <= min(max_side, 4096)


def test_large_images_keep_a_legible_size() -> None:
    sheet = contact_sheet([Image.new("RGB", (4000, 3000), "red")] * 4, [1, 2, 3, 4])
    assert sheet.width >= 2 * 1024


def test_a_white_image_has_a_frame() -> None:
    white = Image.new("RGB", (100, 100), "white")
    assert (176, 176, 176) in {colour for _, colour in contact_sheet([white], [1]).getcolors(1 << 24)}  # type: ignore[misc]


def test_given_images_are_not_changed() -> None:
    image = Image.new("RGB", (3000, 2000), "red")
    contact_sheet([image, image], [1, 2])
    assert image.size == (3000, 2000)


def _box_of(sheet: Image.Image, colour: object) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((np.asarray(sheet) == np.array(colour)).all(axis=2))
    return columns.min(), rows.min(), columns.max(), rows.max()
