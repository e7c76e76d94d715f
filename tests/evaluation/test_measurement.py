"""Data sets in their published formats are measured, with the published results beside the measured ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import ImageNode
from published_forms import FORMS, Example, chinese_clip, write_lines

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.evaluation.dataset import FORMATS
from llama_index_mm_zhipu.evaluation.measurement import Measurement
from llama_index_mm_zhipu.images import ImageError
from llama_index_mm_zhipu.readers.records import RecordError, Source
from llama_index_mm_zhipu.vector_store import StoreError

Measure = Callable[..., dict[str, list[float]]]


@pytest.fixture
def measure(demo_folder: Path, demo_embedding: ChineseClipEmbedding) -> Measure:
    """A function that measures the demo model, which stays loaded, and returns the figures by the name of the row."""

    def run(dataset: str, path: object, **settings: Any) -> dict[str, list[float]]:
        measurement = Measurement(
            dataset,
            Path(str(path)),
            model=str(demo_folder / "model"),
            device="cpu",
            show_progress=False,
            **settings,
        )
        return dict(measurement.rows())

    return run


PERFECT = [1.0] * 5
FORM_BY_FORMAT = {
    "muge": "muge-retrieval",
    "flickr30k-cn": "flickr30k-cn",
    "coco-cn": "coco-cn",
    "flickr8k-cn": "flickr8k-cn",
    "chinese-clip": "chinese-clip",
    "jsonl": "article",
    "folder": "folder",
}


def test_every_format_is_tested() -> None:
    assert FORM_BY_FORMAT.keys() == FORMATS.keys()


@pytest.mark.parametrize("name", FORM_BY_FORMAT)
def test_every_format_is_evaluated(name: str, examples: list[Example], tmp_path: Path, measure: Measure) -> None:
    root, *rest = FORMS[FORM_BY_FORMAT[name]].write(tmp_path, examples)
    images = Path(str(rest[0])) if len(rest) == 2 else None
    assert measure(name, root, images=images) == {"10 texts → images": PERFECT, "10 images → texts": PERFECT}


@pytest.mark.parametrize(("name", "queries"), [("flickr30k-cn", 10), ("coco-cn", 10), ("flickr8k-cn", 1), ("jsonl", 1)])
def test_equal_captions_are_one_query_unless_the_published_tables_keep_them_separate(
    name: str, queries: int, examples: list[Example], tmp_path: Path, measure: Measure
) -> None:
    same = [example._replace(caption="一张图") for example in examples]
    root, *rest = FORMS[FORM_BY_FORMAT[name]].write(tmp_path, same)
    figures = measure(name, root, images=Path(str(rest[0])) if rest else None)
    # Ten equal queries with one image each find it at ten different ranks; one query with all ten finds one at rank 1.
    assert figures[f"{queries} texts → images"][0] == pytest.approx(1 / queries)


def test_only_formats_with_published_results_are_also_recognised_as_chinese_clip(
    examples: list[Example], tmp_path: Path, measure: Measure
) -> None:
    root, _ = FORMS["folder"].write(tmp_path, examples)
    write_lines(tmp_path / "test_texts.jsonl", [{"text_id": 1, "text": "飞机", "image_ids": [1]}])
    assert measure("folder", root)["10 texts → images"] == PERFECT


@pytest.mark.parametrize("name", ["chinese-clip", "muge"])
def test_a_text_with_several_images_is_one_query(
    name: str, examples: list[Example], tmp_path: Path, measure: Measure
) -> None:
    chinese_clip(tmp_path, examples, "valid")
    texts: list[object] = [
        {"text_id": 1, "text": "飞机", "image_ids": [1, 2]},
        {"text_id": 2, "text": "飞机", "image_ids": [3]},
        {"text_id": 3, "text": "没有图片", "image_ids": []},
    ]
    write_lines(tmp_path / "valid_texts.jsonl", texts)
    assert measure(name, tmp_path, split="valid").keys() == {"2 texts → images", "3 images → texts"}


@pytest.mark.integration
@pytest.mark.parametrize("documented_model", ["ViT-B-16"], indirect=True)
def test_published_results_are_returned_for_official_models(
    examples: list[Example], documented_model: str, tmp_path: Path
) -> None:
    measurement = Measurement("flickr30k-cn", tmp_path / "Flickr30k-CN", model=documented_model, device="cpu")
    chinese_clip(measurement.path, examples)
    rows = dict(measurement.rows())
    assert rows["published, texts → images"] == pytest.approx([0.627, 0.869, 0.928, 0.808])
    assert rows["published, images → texts"] == pytest.approx([0.746, 0.935, 0.971, 0.884])
    # The published results are those of the test split.
    chinese_clip(measurement.path, examples, "valid")
    valid = Measurement("flickr30k-cn", measurement.path, split="valid", model=documented_model, device="cpu")
    assert not any("published" in name for name, _ in valid.rows())


def test_a_kept_index_is_not_built_again(
    examples: list[Example], tmp_path: Path, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    chinese_clip(tmp_path / "MUGE", examples, split="valid")
    (tmp_path / "index").mkdir()
    first = measure("muge", tmp_path / "MUGE", index=tmp_path / "index")
    monkeypatch.delattr("llama_index_mm_zhipu.evaluation.measurement.build_index")
    assert measure("muge", tmp_path / "MUGE", index=tmp_path / "index") == first


def damaged(example: Example) -> Example:
    """Overwrite a part of an image so that only decoding finds the damage."""
    return example._replace(image=example.image[:-900] + b"\xff" * 300 + example.image[-600:])


def test_an_incomplete_index_is_completed(examples: list[Example], tmp_path: Path, measure: Measure) -> None:
    (file,) = FORMS["article"].write(tmp_path, [*examples[:4], damaged(examples[4]), *examples[5:]])
    for _ in range(2):
        with pytest.raises(ImageError, match=f"node {Source.of(Path(str(file))).id_of('5')}: "):
            measure("jsonl", file, index=tmp_path / "index")
    FORMS["article"].write(tmp_path, examples)
    rows = measure("jsonl", file, index=tmp_path / "index")
    assert rows == {"10 texts → images": PERFECT, "10 images → texts": PERFECT}


def test_an_index_of_other_data_is_refused(
    examples: list[Example], tmp_path: Path, measure: Measure, demo_embedding: ChineseClipEmbedding
) -> None:
    (first,) = FORMS["article"].write(tmp_path / "a", examples[:5])
    (second,) = FORMS["article"].write(tmp_path / "b", examples[5:])
    measure("jsonl", first, index=tmp_path / "index")
    with pytest.raises(ValueError, match=f"is of jsonl {first}, not of jsonl {second}; give another folder"):
        measure("jsonl", second, index=tmp_path / "index")

    build_index(
        [ImageNode(image=examples[0].base64)], embed_model=demo_embedding, persist_dir=tmp_path / "mine"
    ).close()
    with pytest.raises(ValueError, match="was not built by this command"):
        measure("jsonl", first, index=tmp_path / "mine")


def test_skipped_images_are_reported_and_not_counted_as_misses(
    examples: list[Example], tmp_path: Path, measure: Measure, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = FORMS["article"].write(tmp_path, [*examples[:4], damaged(examples[4]), *examples[5:]])
    with Path(str(file)).open("a", encoding="utf-8") as lines:
        lines.write("no json\n")
    with pytest.raises(RecordError, match="line 11: not an object"):
        measure("jsonl", file, index=tmp_path / "index")

    rows = measure("jsonl", file, index=tmp_path / "index", skip=True)
    assert rows == {"9 texts → images": PERFECT, "9 images → texts": PERFECT}
    assert "left out 1 of 10 images and 1 of 10 texts" in capsys.readouterr().err
    FORMS["article"].write(tmp_path, examples)
    with pytest.raises(ValueError, match=r"^1 of 10 images are not in the index; leave them out with --skip$"):
        measure("jsonl", file, index=tmp_path / "index")


def test_what_cannot_be_measured_is_an_error_before_the_model_is_loaded(
    examples: list[Example], tmp_path: Path
) -> None:
    chinese_clip(tmp_path, examples)
    chinese_clip(tmp_path, examples, "bare")
    write_lines(tmp_path / "bare_texts.jsonl", [{"text_id": 1, "text": "飞机", "image_ids": []}])

    def error_of(dataset: str, path: Path, **settings: Any) -> str:
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            Measurement(dataset, path, model="no model", **settings).rows()
        return str(caught.value)

    assert error_of("jsonl", tmp_path / "no.jsonl") == f"no such file or folder: {tmp_path / 'no.jsonl'}"
    assert error_of("coco-cn", tmp_path / "..").endswith("without its images: give their folder with --images")
    assert error_of("muge", tmp_path, images=tmp_path).endswith("--images: this data set contains its images")
    assert error_of("folder", tmp_path, split="test").endswith("--split: folder has no splits")
    assert error_of("chinese-clip", tmp_path, split="bare").startswith("no queries")
    assert error_of("chinese-clip", tmp_path, split="dev").endswith("there are the splits bare, test")


def test_an_index_that_cannot_be_kept_is_an_error(examples: list[Example], tmp_path: Path, measure: Measure) -> None:
    chinese_clip(tmp_path, examples)
    with pytest.raises(StoreError, match="cannot open the vector store"):
        measure("chinese-clip", tmp_path, index=Path("/dev/null/x"))
