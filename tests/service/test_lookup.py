"""What filters can use: the metadata keys of all stores, the types and examples of their values."""

from __future__ import annotations

from pathlib import Path

from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.service.lookup import filter_options


def test_filter_options_have_the_types_and_the_values_of_both_stores(goods: ImageService) -> None:
    options = {option.key: option for option in goods.filter_options()}
    assert options["价格"].as_dict() == {"key": "价格", "types": ["number"], "values": [], "min": -5, "max": 100}
    assert options["颜色"].values == sorted({"红", "蓝", "红,蓝", "绿色", "白"})
    assert (options["颜色"].min, options["颜色"].max) == (None, None)
    assert options["in_stock"].types == ["number"]
    assert (options["尺寸"].min, options["尺寸"].max) == (1, 3)
    assert options["tags"].values == ["玩具", "红色"]
    assert options["mixed"].types == ["text", "number"]


def test_the_packages_own_keys_are_no_filter_options(goods: ImageService) -> None:
    keys = [option.key for option in goods.filter_options()]
    assert keys == sorted(keys)
    assert {"content_hash", "source_root", "source_location"}.isdisjoint(keys)


def test_stores_that_cannot_tell_their_keys_give_no_options() -> None:
    assert filter_options([object()]) == []


def test_files_of_an_index_are_known(tmp_path: Path, goods: ImageService) -> None:
    assert not goods.has_images_of(tmp_path / "a.jpg")
