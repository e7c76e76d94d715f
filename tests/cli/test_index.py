"""``mmzhipu index``: what it reads, reports and leaves out; what it refuses leaves nothing behind."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from runs import Command

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.store_file import read_store_file


@pytest.fixture
def some_photos(photos: list[Path], surroundings: Path) -> Path:
    """A folder with three photographs, in the present folder."""
    folder = surroundings / "photos"
    folder.mkdir()
    for photo in photos[:3]:
        shutil.copy(photo, folder)
    return folder


def test_a_new_index_is_reported_with_the_next_command(mmzhipu: Command, some_photos: Path, demo_model: Path) -> None:
    run = mmzhipu("index", "photos", "--model", demo_model)
    assert run.status == 0
    assert run.out.startswith("3 images in mmzhipu_store: 3 new, 0 unchanged, 0 removed, ")
    assert run.out.endswith(" s\n")
    assert run.err == "search them with: mmzhipu search …\n"
    assert mmzhipu("search", "衣服", "-k", 1).status == 0


def test_later_runs_need_no_model_and_continue(
    mmzhipu: Command, some_photos: Path, photos: list[Path], demo_model: Path
) -> None:
    mmzhipu("index", "photos", "--model", demo_model, "--store", "my store")
    shutil.copy(photos[3], some_photos)
    run = mmzhipu("index", "photos", "--store", "my store", "--lang", "zh")
    assert run.out.startswith("my store 中共有 4 张图片：新增 1，未变 3，删除 0，用时 ")
    assert run.err == "接下来可以搜索：mmzhipu search … --store 'my store'\n"
    (some_photos / photos[0].name).unlink()
    report = mmzhipu("index", "photos", "--store", "my store", "--remove-missing", "--json").rows[0]
    assert {name: report[name] for name in ("store", "images", "new_images", "kept", "removed")} == {
        "store": "my store",
        "images": 3,
        "new_images": 0,
        "kept": 3,
        "removed": 1,
    }


def test_all_kinds_of_paths_together(mmzhipu: Command, some_photos: Path, emoji: Path, demo_model: Path) -> None:
    shutil.copy(Path(__file__).parents[1] / "data" / "pages" / "form.pdf", some_photos)
    (single,) = some_photos.glob("hat*")
    single.rename(some_photos.parent / "hat.jpg")
    run = mmzhipu("index", "photos", "hat.jpg", emoji, "--model", demo_model, "--json")
    assert run.status == 0
    assert run.err.startswith("warning: no text layer on 1 of 1 pages of ")
    assert len(run.err.splitlines()) == 1
    assert run.rows[0]["images"] == 2 + 1 + 1 + 10
    assert {"form.pdf", "hat.jpg", "emoji.jsonl"} <= {
        Path(row["source"]).name for row in mmzhipu("search", "x", "-k", 20, "--json").rows
    }


def test_captions_and_metadata_come_from_a_table(mmzhipu: Command, some_photos: Path, demo_model: Path) -> None:
    names = sorted(photo.name for photo in some_photos.iterdir())
    lines = ["file_name,caption,price", *(f"{name},说明{number},{number}" for number, name in enumerate(names))]
    (some_photos.parent / "captions.csv").write_text("\n".join(lines), encoding="utf-8")
    run = mmzhipu("index", "photos", "--captions", "captions.csv", "--model", demo_model)
    assert run.status == 0
    rows = mmzhipu("search", "说明", "--filter", "price>=1", "--json").rows
    assert {(row["caption"], row["metadata"]["price"]) for row in rows} == {("说明1", 1), ("说明2", 2)}
    run = mmzhipu("index", "photos", "--captions", "captions.csv", "--caption-column", "说明")
    assert (run.status, run.out) == (2, "")
    assert "captions.csv, line 1: there is no column 说明" in run.err
    rows = mmzhipu("search", "说明", "--json", "-k", 10).rows
    assert {row["caption"] for row in rows} == {"说明0", "说明1", "说明2"}
    (some_photos.parent / "prices.csv").write_text(f"name,price\n{names[0]},5\n", encoding="utf-8")
    columns = ["--name-column", "name", "--caption-column", ""]
    run = mmzhipu("index", "photos", "--captions", "prices.csv", *columns, "--model", demo_model, "--store", "s")
    assert run.status == 0
    assert len(mmzhipu("search", "x", "--filter", "price=5", "--json", "--store", "s").rows) == 1


def test_sidecar_captions(mmzhipu: Command, some_photos: Path, demo_model: Path) -> None:
    for photo in list(some_photos.iterdir()):
        photo.with_suffix(".txt").write_text(f"说明 {photo.stem}", encoding="utf-8")
    mmzhipu("index", "photos", "--captions", "sidecar", "--model", demo_model)
    assert mmzhipu("search", "说明", "-k", 1, "--json").rows[0]["caption"].startswith("说明 ")


def test_what_cannot_be_read_is_left_out_and_listed_once(mmzhipu: Command, some_photos: Path, demo_model: Path) -> None:
    for number in range(12):
        (some_photos / f"broken {number:02}.jpg").write_bytes(b"\xff\xd8 no more")
    (some_photos / "new\nline.jpg").write_bytes(b"\xff\xd8 no more")
    run = mmzhipu("index", "photos", "--model", demo_model)
    lines = run.err.splitlines()
    assert run.status == 0
    assert run.out.startswith("3 images in mmzhipu_store: 3 new, ")
    assert (lines[0], lines[11:]) == ("left out 13:", ["  and 3 more", "search them with: mmzhipu search …"])
    assert all("broken" in line for line in lines[1:11])
    assert run.err.count("broken 00.jpg is not an image") == 1
    report = mmzhipu("index", "photos", "--json")
    assert report.rows[0]["skipped_count"] == len(report.rows[0]["skipped"]) == 13
    assert mmzhipu("index", "photos", "--lang", "zh").err.splitlines()[0] == "跳过了 13 项："


def test_strict_stops_at_the_first_broken_image(mmzhipu: Command, some_photos: Path, demo_model: Path) -> None:
    (some_photos / "a broken.jpg").write_bytes(b"\xff\xd8 no more")
    run = mmzhipu("index", "photos", "--strict", "--model", demo_model)
    assert (run.status, run.out) == (2, "")
    assert "a broken.jpg is not an image" in run.err
    assert len(run.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing here"], "no such file or folder: {here}/nothing here"),
        (["photos", "nothing"], "no such file or folder: {here}/nothing"),
        (["notes.txt"], "{here}/notes.txt is neither an image nor a file with images (.jsonl, "),
        (["empty"], "{here}/empty holds no images; expected files such as .jpg or .png"),
        (["photos", "--captions", "no.csv"], "no such file or folder: {here}/no.csv"),
        (["photos", "--model", "ViT"], "unknown model 'ViT': use one of RN50, ViT-B-16"),
        pytest.param(["photos", "--device", "gpu"], "torch cannot use the device 'gpu'", marks=pytest.mark.integration),
        (["photos", "--store", "notes.txt"], "notes.txt is not a folder"),
        (["photos", "--store", "notes.txt/store"], "notes.txt"),
    ],
)
def test_bad_input_is_one_line_and_creates_nothing(
    mmzhipu: Command, some_photos: Path, demo_model: Path, surroundings: Path, arguments: list[str], said: str
) -> None:
    (surroundings / "notes.txt").write_text("notes")
    (surroundings / "empty").mkdir()
    model = [] if "--model" in arguments else ["--model", demo_model]
    run = mmzhipu("index", *arguments, *model)
    assert (run.status, run.out, len(run.err.splitlines())) == (2, "", 1)
    assert run.err.startswith("error: ")
    assert said.format(here=surroundings) in run.err
    assert {path.name for path in surroundings.iterdir()} == {"photos", "notes.txt", "empty"}
    assert (surroundings / "notes.txt").read_text() == "notes"
    chinese = mmzhipu("index", *arguments, *model, "--lang", "zh")
    assert chinese.err.startswith("错误：")


@pytest.mark.integration
def test_an_index_of_another_model_is_refused_and_unchanged(
    mmzhipu: Command, store: Path, some_photos: Path, tiny_model: Path, tiny_embedding: ChineseClipEmbedding
) -> None:
    shutil.copytree(store, "mmzhipu_store")
    before = read_store_file(Path("mmzhipu_store/image.sqlite3"))
    for command in (["index", "photos"], ["search", "x"], ["ask", "x", "--mock"]):
        run = mmzhipu(*command, "--model", tiny_model)
        assert (run.status, run.out) == (2, "")
        assert "was filled with the model" in run.err.splitlines()[-1]
        run = mmzhipu(*command, "--model", tiny_model, "--lang", "zh")
        assert run.err.splitlines()[-1].startswith("错误：索引是用另一个模型建立的，请改用原来的模型，或另建索引（")
    after = read_store_file(Path("mmzhipu_store/image.sqlite3"))
    assert (after.nodes, after.settings) == (before.nodes, before.settings)


def test_a_model_that_moved_is_named_and_its_new_path_is_remembered(
    mmzhipu: Command, some_photos: Path, demo_model: Path, surroundings: Path
) -> None:
    old, new = surroundings / "old", surroundings / "new model"
    shutil.copytree(demo_model, old)
    mmzhipu("index", "photos", "--model", "old")
    old.rename(new)
    for command in (["search", "x"], ["index", "photos"], ["ask", "x", "--mock"], ["chat", "--mock"]):
        run = mmzhipu(*command)
        assert (run.status, run.out) == (2, "")
        assert f"the model of the index was at {old}, and there is nothing now" in run.err
        assert run.err.rstrip().endswith("(--model PATH)")
    run = mmzhipu("search", "x", "--lang", "zh")
    assert run.err.startswith("错误：索引的模型已不在原来的位置，请用 --model 路径 指定一次，索引会记住（")
    assert mmzhipu("search", "x", "--model", "new model").status == 0
    assert mmzhipu("search", "x").status == 0
    assert mmzhipu("info", "--json").rows[0]["model"] == str(new)


def test_an_index_that_got_no_image_is_empty_and_takes_images_later(
    mmzhipu: Command, some_photos: Path, photos: list[Path], demo_model: Path
) -> None:
    (some_photos / "z.jpg").write_bytes(b"\xff\xd8 no more")
    for photo in list(some_photos.glob("*_*")):
        photo.write_bytes(b"\xff\xd8 no more")
    run = mmzhipu("index", "photos", "--model", demo_model)
    assert (run.status, run.out.partition(",")[0]) == (1, "0 images in mmzhipu_store: 0 new")
    assert mmzhipu("info").status == 0
    run = mmzhipu("search", "x")
    assert run == (2, "", "error: the index in mmzhipu_store holds no images yet; index some first\n")
    shutil.copy(photos[0], some_photos / "z.jpg")
    assert mmzhipu("index", "photos", "--model", demo_model).out.startswith("1 image in mmzhipu_store: 1 new")
    assert mmzhipu("search", "x", "-k", 1).status == 0


def test_json_lines_that_cannot_be_read_are_named(mmzhipu: Command, emoji: Path, demo_model: Path) -> None:
    lines = emoji.read_text(encoding="utf-8").splitlines()[:3]
    broken = json.dumps({"image_id": "x", "image_base64": "bm8gaW1hZ2U=", "caption": "坏"}, ensure_ascii=False)
    Path("some.jsonl").write_text("\n".join([*lines, "no json", broken]), encoding="utf-8")
    run = mmzhipu("index", "some.jsonl", "--model", demo_model)
    assert run.out.startswith("3 images in mmzhipu_store: 3 new")
    assert run.err.splitlines()[0] == "left out 2:"
    assert "line 4" in run.err.splitlines()[1]


@pytest.fixture
def scan(surroundings: Path) -> Path:
    """A PDF file of one page without a text layer, in the present folder."""
    return shutil.copy(Path(__file__).parents[1] / "data" / "pages" / "form.pdf", surroundings / "scan.pdf")


@pytest.mark.usefixtures("scan")
def test_pages_without_text_are_named_with_the_option_that_reads_them(mmzhipu: Command, demo_model: Path) -> None:
    english = mmzhipu("index", "scan.pdf", "--model", demo_model).err.splitlines()[0]
    assert re.fullmatch(
        r"warning: no text layer on 1 of 1 pages of .+scan\.pdf: to find .+ --ocr \(extra ocr\)", english
    )
    chinese = mmzhipu("index", "scan.pdf", "--lang", "zh").err.splitlines()[0]
    assert re.fullmatch(r"警告：.+scan\.pdf 的 1 页中有 1 页没有文字层；加上 --ocr .+", chinese)
    assert "PageReader" not in english + chinese


@pytest.mark.usefixtures("scan")
def test_pages_that_ocr_reads_are_not_warned_of(
    mmzhipu: Command, demo_model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("rapidocr")
    monkeypatch.setenv("LLAMA_INDEX_CACHE_DIR", str(tmp_path))
    run = mmzhipu("index", "scan.pdf", "--ocr", "--model", demo_model)
    assert (run.status, run.err) == (0, "search them with: mmzhipu search …\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["index", "gone"],
        ["index", "photos", "gone"],
        ["index", "photos", "--captions", "gone"],
        ["search", "--image", "gone"],
        ["ask", "有吗？", "--image", "gone", "--mock"],
        ["evaluate", "jsonl", "gone"],
        ["evaluate", "muge", "photos", "--images", "gone"],
        ["import", "gone"],
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("some_photos")
def test_paths_that_do_not_exist_are_named_in_the_language_of_the_command(
    mmzhipu: Command, surroundings: Path, arguments: list[str]
) -> None:
    path = surroundings / "gone"
    assert mmzhipu(*arguments) == (2, "", f"error: no such file or folder: {path}; check the path\n")
    assert mmzhipu(*arguments, "--lang", "zh") == (2, "", f"错误：没有这个文件或文件夹：{path}；请检查路径\n")
