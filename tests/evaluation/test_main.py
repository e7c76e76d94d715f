"""The command evaluates data sets in their published formats and prints published results beside the measured ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from llama_index.core.schema import ImageNode
from published_forms import FORMS, Example, chinese_clip, write_lines

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.evaluation.__main__ import main
from llama_index_mm_zhipu.readers.records import Source


def rows_of(output: str) -> dict[str, list[float]]:
    """Return the values of the printed table by the title of the row."""
    rows = {}
    for line in output.splitlines()[1:]:
        words = line.split()
        figures = [float(word) for word in words if word.replace(".", "").isdigit() and "." in word]
        rows[" ".join(words[: len(words) - len(figures)])] = figures
    return rows


@pytest.fixture
def measure(demo_folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, list[float]]]:
    """A function that runs the command with the demo model and returns the values by the title of the row."""

    def run(*arguments: object) -> dict[str, list[float]]:
        main([*map(str, arguments), "--model", str(demo_folder / "model"), "--device", "cpu"])
        return rows_of(capsys.readouterr().out)

    return run


@pytest.fixture
def fails(demo_folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A function that runs the command, checks its exit status, and returns the last line of its error output."""

    def run(status: int, *arguments: object) -> str:
        with pytest.raises(SystemExit) as left:
            main([*map(str, arguments), "--model", str(demo_folder / "model"), "--device", "cpu"])
        assert left.value.code == status
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err.strip().splitlines()[-1]

    return run


PERFECT = [100.0] * 5
FORM_BY_FORMAT = {
    "muge": "muge-retrieval",
    "flickr30k-cn": "flickr30k-cn",
    "coco-cn": "coco-cn",
    "flickr8k-cn": "flickr8k-cn",
    "chinese-clip": "chinese-clip",
    "jsonl": "article",
    "folder": "folder",
}


@pytest.mark.parametrize("name", FORM_BY_FORMAT)
def test_every_format_is_evaluated(
    name: str, examples: list[Example], tmp_path: Path, measure: Callable[..., dict[str, list[float]]]
) -> None:
    root, *rest = FORMS[FORM_BY_FORMAT[name]].write(tmp_path, examples)
    images = ["--images", rest[0]] if len(rest) == 2 else []
    assert measure(name, root, *images) == {"10 texts → images": PERFECT, "10 images → texts": PERFECT}


@pytest.mark.parametrize(("name", "queries"), [("flickr30k-cn", 10), ("coco-cn", 10), ("flickr8k-cn", 1), ("jsonl", 1)])
def test_equal_captions_are_one_query_unless_the_published_tables_keep_them_separate(
    name: str, queries: int, examples: list[Example], tmp_path: Path, measure: Callable[..., dict[str, list[float]]]
) -> None:
    same = [example._replace(caption="一张图") for example in examples]
    root, *rest = FORMS[FORM_BY_FORMAT[name]].write(tmp_path, same)
    figures = measure(name, root, *(["--images", rest[0]] if rest else []))
    # Ten equal queries with one image each find it at ten different ranks; one query with all ten finds one at rank 1.
    assert figures[f"{queries} texts → images"][0] == pytest.approx(100.0 / queries)


def test_only_formats_with_published_results_are_also_recognised_as_chinese_clip(
    examples: list[Example], tmp_path: Path, measure: Callable[..., dict[str, list[float]]]
) -> None:
    root, _ = FORMS["folder"].write(tmp_path, examples)
    write_lines(tmp_path / "test_texts.jsonl", [{"text_id": 1, "text": "飞机", "image_ids": [1]}])
    assert measure("folder", root)["10 texts → images"] == PERFECT


@pytest.mark.parametrize("name", ["chinese-clip", "muge"])
def test_a_text_with_several_images_is_one_query(
    name: str, examples: list[Example], tmp_path: Path, measure: Callable[..., dict[str, list[float]]]
) -> None:
    chinese_clip(tmp_path, examples, "valid")
    texts: list[object] = [
        {"text_id": 1, "text": "飞机", "image_ids": [1, 2]},
        {"text_id": 2, "text": "飞机", "image_ids": [3]},
        {"text_id": 3, "text": "没有图片", "image_ids": []},
    ]
    write_lines(tmp_path / "valid_texts.jsonl", texts)
    assert measure(name, tmp_path, "--split", "valid").keys() == {"2 texts → images", "3 images → texts"}


@pytest.mark.integration
@pytest.mark.parametrize("documented_model", ["ViT-B-16"], indirect=True)
def test_published_results_are_printed_for_official_models(
    examples: list[Example], documented_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["flickr30k-cn", str(tmp_path / "Flickr30k-CN"), "--model", documented_model, "--device", "cpu"]
    chinese_clip(tmp_path / "Flickr30k-CN", examples)
    main(arguments)
    rows = rows_of(capsys.readouterr().out)
    assert rows["published, texts → images"] == [62.7, 86.9, 92.8, 80.8]
    assert rows["published, images → texts"] == [74.6, 93.5, 97.1, 88.4]
    # The published results are those of the test split.
    chinese_clip(tmp_path / "Flickr30k-CN", examples, "valid")
    main([*arguments, "--split", "valid"])
    assert "published" not in capsys.readouterr().out


def test_a_kept_index_is_not_built_again(
    examples: list[Example],
    tmp_path: Path,
    measure: Callable[..., dict[str, list[float]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chinese_clip(tmp_path / "MUGE", examples, split="valid")
    (tmp_path / "index").mkdir()
    arguments = ("muge", tmp_path / "MUGE", "--index", tmp_path / "index")
    first = measure(*arguments)
    monkeypatch.delattr("llama_index_mm_zhipu.evaluation.__main__.build_index")
    assert measure(*arguments) == first


def damaged(example: Example) -> Example:
    """Overwrite a part of an image so that only decoding finds the damage."""
    return example._replace(image=example.image[:-900] + b"\xff" * 300 + example.image[-600:])


def test_an_incomplete_index_is_completed(
    examples: list[Example],
    tmp_path: Path,
    measure: Callable[..., dict[str, list[float]]],
    fails: Callable[..., str],
) -> None:
    (file,) = FORMS["article"].write(tmp_path, [*examples[:4], damaged(examples[4]), *examples[5:]])
    arguments = ("jsonl", file, "--index", tmp_path / "index")
    broken = f"error: node {Source.of(Path(str(file))).id_of('5')}: "
    assert broken in fails(1, *arguments)
    assert broken in fails(1, *arguments)
    FORMS["article"].write(tmp_path, examples)
    assert measure(*arguments) == {"10 texts → images": PERFECT, "10 images → texts": PERFECT}


def test_an_index_of_other_data_is_refused(
    examples: list[Example],
    tmp_path: Path,
    measure: Callable[..., dict[str, list[float]]],
    fails: Callable[..., str],
    demo_embedding: ChineseClipEmbedding,
) -> None:
    (first,) = FORMS["article"].write(tmp_path / "a", examples[:5])
    (second,) = FORMS["article"].write(tmp_path / "b", examples[5:])
    measure("jsonl", first, "--index", tmp_path / "index")
    said = fails(1, "jsonl", second, "--index", tmp_path / "index")
    assert said.endswith(f"is of jsonl {first}, not of jsonl {second}; give another folder")

    build_index(
        [ImageNode(image=examples[0].base64)], embed_model=demo_embedding, persist_dir=tmp_path / "mine"
    ).close()
    assert "was not built by this command" in fails(1, "jsonl", first, "--index", tmp_path / "mine")


def test_skipped_images_are_reported_and_not_counted_as_misses(
    examples: list[Example],
    demo_folder: Path,
    tmp_path: Path,
    fails: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (file,) = FORMS["article"].write(tmp_path, [*examples[:4], damaged(examples[4]), *examples[5:]])
    with Path(str(file)).open("a", encoding="utf-8") as lines:
        lines.write("no json\n")
    arguments = ["jsonl", file, "--index", tmp_path / "index"]
    assert "line 11: not an object" in fails(1, *arguments)

    main([*map(str, arguments), "--skip", "--model", str(demo_folder / "model"), "--device", "cpu"])

    captured = capsys.readouterr()
    assert rows_of(captured.out) == {"9 texts → images": PERFECT, "9 images → texts": PERFECT}
    assert "left out 1 of 10 images and 1 of 10 texts" in captured.err
    FORMS["article"].write(tmp_path, examples)
    assert fails(1, *arguments) == "error: 1 of 10 images are not in the index; leave them out with --skip"


def test_errors_are_one_line(
    examples: list[Example], tmp_path: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chinese_clip(tmp_path, examples)
    chinese_clip(tmp_path, examples, "bare")
    write_lines(tmp_path / "bare_texts.jsonl", [{"text_id": 1, "text": "飞机", "image_ids": []}])
    assert fails(1, "jsonl", tmp_path / "no.jsonl") == f"error: no such file or folder: {tmp_path}/no.jsonl"
    assert fails(2, "coco-cn", tmp_path / "..").endswith("without its images: give their folder with --images")
    assert fails(2, "muge", tmp_path, "--images", tmp_path).endswith("--images: this data set contains its images")
    assert fails(2, "folder", tmp_path, "--split", "test").endswith("--split: folder has no splits")
    assert fails(1, "chinese-clip", tmp_path, "--split", "bare").startswith("error: no queries")
    assert fails(1, "chinese-clip", tmp_path, "--split", "dev").endswith("there are the splits bare, test")
    assert fails(1, "chinese-clip", tmp_path, "--index", "/dev/null/x").startswith(
        "error: cannot open the vector store"
    )

    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llama_index_mm_zhipu.evaluation.__main__.build_index", interrupted)
    assert fails(130, "chinese-clip", tmp_path) == "interrupted"


def test_the_table_is_printed_on_a_console_with_another_encoding(
    examples: list[Example], demo_folder: Path, tmp_path: Path
) -> None:
    chinese_clip(tmp_path, examples)
    command = [sys.executable, "-m", "llama_index_mm_zhipu.evaluation", "chinese-clip", str(tmp_path)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [*command, "--model", str(demo_folder / "model"), "--device", "cpu"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "10 texts ? images        100.0" in done.stdout
