"""The service over one index: search, ask, chat, look, add and status, also from many threads."""

from __future__ import annotations

import io
import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from list_store import ListStore
from llama_index.core.schema import ImageNode, TextNode
from PIL import Image
from published_forms import Example

from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index
from llama_index_mm_zhipu.images import ImageError, load_image
from llama_index_mm_zhipu.llm import GLMError
from llama_index_mm_zhipu.service.answers import SourceOptions
from llama_index_mm_zhipu.service.errors import UnknownNodeError
from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.service.inputs import IndexInputs
from llama_index_mm_zhipu.service.results import IndexReport
from llama_index_mm_zhipu.testing import Cut, ErrorAnswer, MockGLMServer
from llama_index_mm_zhipu.vector_store.errors import ModelMismatchError

Connect = Callable[..., ZhipuMultiModal]


@pytest.fixture
def build(tiny_model: Path, tmp_path: Path) -> Callable[..., IndexReport]:
    """A function that indexes paths into the folder ``store`` with the small model, and closes the index."""

    def build(*paths: Path, captions: Path | None = None, **options: Any) -> IndexReport:
        options.setdefault("model", tiny_model)
        service, report = ImageService.build(IndexInputs(paths, captions), tmp_path / "store", device="cpu", **options)
        service.close()
        return report

    return build


@pytest.fixture(scope="session")
def emoji(demo_embedding: ChineseClipEmbedding, examples: list[Example]) -> ImageService:
    """A service over ten emoji that the demo model distinguishes, whose ids are their names, and two texts."""
    nodes = [ImageNode(id_=e.caption, image=e.base64, text=e.caption, metadata={"number": e.number}) for e in examples]
    texts = [TextNode(id_=f"t{number}", text=f"水果的说明{number}") for number in range(2)]
    return ImageService(build_index([*nodes, *texts], demo_embedding))


def images_of(service: ImageService, *arguments: Any, **options: Any) -> list[str]:
    """Search, and return the ids of the images found."""
    return [each.node_id for each in service.search(*arguments, **options).results if each.type == "image"]


# Search


@pytest.mark.parametrize("name", ["飞机", "闹钟", "香蕉"])
def test_words_and_images_find_images(emoji: ImageService, examples: list[Example], name: str) -> None:
    image = next(example.image for example in examples if example.caption == name)
    assert images_of(emoji, name)[0] == name
    assert images_of(emoji, image=image)[0] == name
    assert images_of(emoji, name, image=image)[0] == name


def test_as_many_images_and_texts_are_found_as_asked_for(emoji: ImageService) -> None:
    for count in (1, 3, 20):
        results = emoji.search("水果", similarity_top_k=count).results
        assert [sum(each.type == kind for each in results) for kind in ("text", "image")] == [
            min(count, 2),
            min(count, 10),
        ]


def test_images_like_another_one_leave_it_out_and_are_numbered_from_1(emoji: ImageService) -> None:
    found = emoji.search(like="红苹果", similarity_top_k=4)
    assert [(each.type, each.number) for each in found.results] == [("image", number) for number in (1, 2, 3, 4)]
    assert "红苹果" not in [each.node_id for each in found.results]
    assert "图1" in found.gallery()._repr_html_()
    all_others = emoji.search(like="红苹果", similarity_top_k=50).results
    assert [each.number for each in all_others] == list(range(1, 10))


def test_images_like_another_one_and_words_come_with_as_many_texts(emoji: ImageService) -> None:
    found = emoji.search("水果", like="红苹果", similarity_top_k=2).results
    assert [each.type for each in found] == ["text", "text", "image", "image"]
    assert [each.number for each in found] == [None, None, 1, 2]


def test_modes_rank_by_words_vectors_or_both(emoji: ImageService) -> None:
    assert images_of(emoji, "红苹果", mode="text_search") == ["红苹果"]
    for mode in ("default", "hybrid", "mmr"):
        assert images_of(emoji, "红苹果", mode=mode)[0] == "红苹果"
    with pytest.raises(ValueError, match="mode is 'fast'"):
        emoji.search("红苹果", mode="fast")


def test_a_cut_off_leaves_out_what_is_less_similar(emoji: ImageService) -> None:
    everything = emoji.search("红苹果", similarity_top_k=10).results
    scores = sorted((each.score for each in everything if each.score is not None), reverse=True)
    kept = emoji.search("红苹果", similarity_top_k=10, similarity_cutoff=scores[0]).results
    assert [each.node_id for each in kept] == ["红苹果"]
    assert emoji.search("红苹果", similarity_cutoff=1.0).results == []


def test_labels_are_in_the_language_of_the_words(emoji: ImageService) -> None:
    for words, label in (("飞机", "检索到的图片"), ("aeroplane", "retrieved picture")):
        (node,) = emoji.search(words, similarity_top_k=1, filters=["number=1"]).nodes
        assert label in node.node.metadata


@pytest.mark.parametrize("words", ["", " ", "\n"])
def test_a_search_for_nothing_is_an_error(emoji: ImageService, words: str) -> None:
    with pytest.raises(ValueError, match="nothing to search for: give words, an image, or both"):
        emoji.search(words)


def test_a_search_by_two_images_is_an_error(emoji: ImageService, examples: list[Example]) -> None:
    with pytest.raises(ValueError, match="give either an image, or the id"):
        emoji.search(image=examples[0].image, like="飞机")


def test_an_image_that_cannot_be_read_is_an_error(emoji: ImageService, tmp_path: Path) -> None:
    for image in (tmp_path / "missing.jpg", b"no image"):
        with pytest.raises(ImageError):
            emoji.search(image=image)


def test_results_are_json(emoji: ImageService) -> None:
    for result in emoji.search("飞机").results:
        assert json.loads(json.dumps(result.as_dict())) == result.as_dict()


# Ask and chat


def test_an_answer_comes_in_pieces_and_cites(emoji: ImageService, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    stream = ImageService(emoji.index, llm=llm).ask("哪张是飞机？", similarity_top_k=2)
    pieces = list(stream)
    answer = stream.read()
    assert len(pieces) > 1
    assert answer.text == "".join(pieces)
    assert answer.question == "哪张是飞机？"
    assert answer.citations["图1"] == next(each.node_id for each in answer.sources if each.number == 1)
    assert answer.unknown_citations == []
    assert [each.node_id for each in answer.sources] == [each.node.node_id for each in stream.sources]
    assert json.loads(json.dumps(answer.as_dict())) == answer.as_dict()
    assert stream.read() == answer
    assert len(server.requests) == 1
    page = stream.gallery()._repr_html_()
    assert "哪张是飞机？" in page
    assert "已引用" in page


def test_an_answer_can_be_read_from_the_middle(emoji: ImageService, llm: ZhipuMultiModal) -> None:
    whole = ImageService(emoji.index, llm=llm).ask("飞机").read().text
    stream = ImageService(emoji.index, llm=llm).ask("飞机")
    first = next(iter(stream))
    assert stream.read().text == whole
    assert whole.startswith(first)


def test_a_question_about_an_image_sends_it(
    emoji: ImageService, connect: Connect, server: MockGLMServer, examples: list[Example]
) -> None:
    service = ImageService(emoji.index, llm=connect(model="glm-4.6v-flash"))
    answer = service.ask("What is this?", image=examples[1].image, similarity_top_k=1, filters=["number>5"]).read()
    sent = json.dumps(server.requests[-1])
    assert examples[1].base64[:60] in sent
    assert [each.metadata["number"] > 5 for each in answer.sources if each.type == "image"] == [True]


def test_an_error_of_the_model_is_raised(emoji: ImageService, llm: ZhipuMultiModal, server: MockGLMServer) -> None:
    server.script(ErrorAnswer(400, "1301", "系统检测到输入或生成内容可能包含不安全或敏感内容"))
    with pytest.raises(GLMError, match="1301"):
        ImageService(emoji.index, llm=llm).ask("飞机").read()


def test_a_missing_key_is_an_error_when_it_is_needed(emoji: ImageService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZHIPUAI_API_KEY", raising=False)
    service = ImageService(emoji.index)
    assert service.search("飞机").results
    with pytest.raises(ValueError, match="ZHIPUAI_API_KEY"):
        service.ask("飞机")


def test_a_conversation_remembers_words_and_images(
    emoji: ImageService, connect: Connect, server: MockGLMServer, examples: list[Example]
) -> None:
    session = ImageService(emoji.index, llm=connect(model="glm-4.6v-flash")).chat(similarity_top_k=1)
    first = session.ask("这是什么？", examples[1].image).read()
    assert first.sources
    session.ask("它是什么颜色？").read()
    asked = json.dumps(server.requests[-1], ensure_ascii=False)
    assert "这是什么？" in asked
    assert examples[1].base64[:60] in asked
    session.clear()
    session.ask("它是什么颜色？").read()
    assert "这是什么？" not in json.dumps(server.requests[-1], ensure_ascii=False)


def test_a_conversation_is_in_the_language_of_its_first_message(
    emoji: ImageService, connect: Connect, server: MockGLMServer
) -> None:
    session = ImageService(emoji.index, llm=connect(model="glm-4.6v-flash")).chat(similarity_top_k=1)
    session.ask("What is this?").read()
    session.ask("红苹果").read()
    assert "Picture 1 (similarity" in json.dumps(server.requests[-1], ensure_ascii=False)
    session.clear()
    session.ask("红苹果").read()
    assert "图1（相似度" in json.dumps(server.requests[-1], ensure_ascii=False)


def test_each_message_of_a_conversation_may_have_its_own_sources(
    emoji: ImageService, connect: Connect, server: MockGLMServer
) -> None:
    session = ImageService(emoji.index, llm=connect(model="glm-4.6v-flash")).chat(similarity_top_k=1)
    assert len([each for each in session.ask("有什么？").read().sources if each.type == "image"]) == 1
    answer = session.ask("还有呢？", options=SourceOptions(similarity_top_k=3)).read()
    assert len([each for each in answer.sources if each.type == "image"]) == 3
    assert "有什么？" in json.dumps(server.requests[-1], ensure_ascii=False)
    with pytest.raises(ValueError, match="没有"):
        session.ask("还有呢？", options=SourceOptions(filters=["没有=1"]))


def test_an_answer_that_broke_off_does_not_pass_for_a_whole_one(
    emoji: ImageService, llm: ZhipuMultiModal, server: MockGLMServer
) -> None:
    server.script(Cut(4))
    stream = ImageService(emoji.index, llm=llm).ask("飞机")
    for _ in range(2):
        with pytest.raises(GLMError):
            stream.read()


# Look


@pytest.mark.parametrize(("max_side", "expected"), [(64, (64, 48)), (1024, (400, 300))])
def test_an_image_is_shown_as_jpeg_and_not_enlarged(
    tiny_embedding: ChineseClipEmbedding, max_side: int, expected: tuple[int, int], tmp_path: Path
) -> None:
    Image.new("RGBA", (400, 300), "red").save(tmp_path / "a.png")
    service = ImageService(build_index([ImageNode(id_="a", image_path=str(tmp_path / "a.png"))], tiny_embedding))
    shown = service.look("a", max_side=max_side)
    with Image.open(io.BytesIO(shown.data)) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", expected, "RGB")
    assert (shown.width, shown.height, shown.mime_type) == (*expected, "image/jpeg")
    assert shown.as_dict() == {**shown.result.as_dict(), "width": expected[0], "height": expected[1]}
    assert str(shown.data[:20]) not in repr(shown)
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match=r"a\.png"):
        service.look("a")


def test_the_side_of_an_image_is_positive(emoji: ImageService) -> None:
    with pytest.raises(ValueError, match="max_side is 0"):
        emoji.look("飞机", max_side=0)


def test_an_unknown_id_names_similar_ones(
    build: Callable[..., IndexReport], emoji_folder: Path, tmp_path: Path
) -> None:
    build(emoji_folder)
    service = ImageService.open(tmp_path / "store", device="cpu")
    known = service.search("飞机", similarity_top_k=10, filters=["file_name=飞机.jpg"]).results[0].node_id
    for wrong in ("飞机.jpg", known[:-1], known.replace("-", "_")):
        with pytest.raises(UnknownNodeError, match=rf"no image has the id .*; did you mean .*{known}"):
            service.look(wrong)
    with pytest.raises(UnknownNodeError, match=r"^no image has the id zzz$"):
        service.search(like="zzz")
    service.close()


@pytest.mark.parametrize("given", ["/9j/" + "4AAQ" * 500, "data:image/png;base64," + "iVBO" * 500, "x" * 2_000_000])
def test_an_image_is_not_shown_for_an_unknown_id(emoji: ImageService, given: str) -> None:
    with pytest.raises(UnknownNodeError) as error:
        emoji.look(given)
    assert str(error.value).endswith(f" given as {len(given)} characters") or "a string of 2000000" in str(error.value)


def test_stores_that_list_nothing_name_no_similar_ids(
    tiny_embedding: ChineseClipEmbedding, examples: list[Example]
) -> None:
    node = ImageNode(id_="a", image=examples[0].base64)
    index = build_index([node], tiny_embedding, image_store=ListStore(), text_store=ListStore())
    service = ImageService(index)
    assert service.look("a").width == 128
    assert images_of(service, "图", similarity_top_k=1) == ["a"]
    with pytest.raises(UnknownNodeError, match=r"^no image has the id b$"):
        service.look("b")


def test_a_text_is_no_image(emoji: ImageService) -> None:
    with pytest.raises(UnknownNodeError):
        emoji.look("t0")


# Build, add and status


def test_building_twice_embeds_nothing_again(
    build: Callable[..., IndexReport], emoji_folder: Path, captions_csv: Path, tmp_path: Path
) -> None:
    first = build(emoji_folder, captions=captions_csv)
    assert (first.images, first.new_images, first.kept, first.removed, first.skipped_count) == (10, 10, 0, 0, 0)
    second = build(emoji_folder, captions=captions_csv, model=None)
    assert (second.images, second.new_images, second.kept, second.removed) == (10, 0, 10, 0)
    assert json.loads(json.dumps(second.as_dict())) == second.as_dict()


def test_the_status_agrees_with_the_stores(
    build: Callable[..., IndexReport], emoji_folder: Path, captions_csv: Path, tiny_model: Path, tmp_path: Path
) -> None:
    build(emoji_folder, captions=captions_csv)
    service = ImageService.open(tmp_path / "store", device="cpu")
    service.index.insert_nodes([TextNode(text="手册", metadata={"chapter": 3})])
    status = service.status()
    images, texts = service.index.image_store, service.index.text_store
    assert (status.images, status.texts) == (images.count(), texts.count()) == (10, 1)
    assert (status.model, status.fingerprint) == (str(tiny_model), images.get_setting("model"))
    assert (status.dimension, status.index_type) == (images.dimension(), "flat")
    assert (status.precision, status.caption_weight) == (images.get_setting("precision"), service.index.caption_weight)
    assert status.metadata_keys == ["chapter", "file_name", "price"]
    (source,) = status.sources
    assert (source.path, source.images, source.exists) == (str(emoji_folder), 10, True)
    assert status.bytes >= (tmp_path / "store" / "image.sqlite3").stat().st_size
    assert json.loads(json.dumps(status.as_dict())) == status.as_dict()
    shutil.rmtree(emoji_folder)
    assert not service.status().sources[0].exists
    service.close()


def test_an_index_in_memory_has_no_status(emoji: ImageService) -> None:
    with pytest.raises(ValueError, match="not in a folder"):
        emoji.status()


def test_a_folder_without_an_index_has_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"no index in {tmp_path}"):
        ImageService.open(tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_nothing_is_created_for_nothing(build: Callable[..., IndexReport], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.jsonl").write_text("{\n", encoding="utf-8")
    for path in (tmp_path / "empty", tmp_path / "empty.jsonl"):
        for remove_missing in (False, True):
            with pytest.raises(ValueError, match="nothing to index"):
                build(path, remove_missing=remove_missing)
    assert not (tmp_path / "store").exists()


def test_images_whose_files_are_gone_are_removed_from_the_given_folders(
    build: Callable[..., IndexReport], examples: list[Example], emoji_folder: Path, photos: list[Path], tmp_path: Path
) -> None:
    other = tmp_path / "photos"
    shutil.copytree(photos[0].parent, other)
    count = len(photos)
    build(emoji_folder, other)
    (emoji_folder / "飞机.jpg").unlink()
    assert build(emoji_folder, other).images == 10 + count
    one = build(emoji_folder, remove_missing=True)
    assert (one.images, one.removed, one.new_images, one.kept) == (9 + count, 1, 0, 9)
    # A folder that has lost all of its images, beside one that has some, and alone.
    for photo in other.iterdir():
        photo.unlink()
    all_of_other = build(emoji_folder, other, remove_missing=True)
    assert (all_of_other.images, all_of_other.removed, all_of_other.skipped_count) == (9, count, 1)
    for image in emoji_folder.iterdir():
        image.unlink()
    assert build(emoji_folder, remove_missing=True).images == 0


def test_an_open_service_adds_and_removes(
    build: Callable[..., IndexReport], emoji_folder: Path, examples: list[Example], tmp_path: Path
) -> None:
    build(emoji_folder)
    service = ImageService.open(tmp_path / "store", device="cpu")
    (emoji_folder / "飞机.jpg").unlink()
    (emoji_folder / "新.jpg").write_bytes(examples[0].image + b"\0")
    (emoji_folder / "broken.jpg").write_bytes(b"no image")
    report = service.add(IndexInputs([emoji_folder]), remove_missing=True)
    assert (report.images, report.new_images, report.kept, report.removed) == (10, 1, 9, 1)
    assert report.skipped_count == len(report.skipped) == 1
    assert images_of(service, "新", filters=["file_name=新.jpg"])
    with pytest.raises(ValueError, match="nothing to index"):
        service.add(IndexInputs([tmp_path / "store"]))
    service.close()


def test_an_index_that_lost_its_images_takes_captions_as_a_new_one(
    build: Callable[..., IndexReport], examples: list[Example], tmp_path: Path
) -> None:
    broken, lines = tmp_path / "broken", tmp_path / "emoji.jsonl"
    broken.mkdir()
    (broken / "a.jpg").write_bytes(b"no image")
    assert build(broken).images == 0
    record = {"image_id": 1, "image_base64": examples[0].base64, "caption": "苹果"}
    lines.write_text(json.dumps(record), encoding="utf-8")
    build(lines)
    service = ImageService.open(tmp_path / "store", device="cpu")
    assert service.index.caption_weight == pytest.approx(0.5)
    service.close()


# Models


def test_another_model_is_refused(
    build: Callable[..., IndexReport], emoji_folder: Path, demo_folder: Path, tmp_path: Path
) -> None:
    build(emoji_folder)
    with pytest.raises(ModelMismatchError):
        ImageService.open(tmp_path / "store", model=demo_folder / "model", device="cpu")
    with pytest.raises(ModelMismatchError):
        build(emoji_folder, model=demo_folder / "model")


def test_a_model_that_was_moved_is_given_once(
    build: Callable[..., IndexReport], emoji_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "model", tmp_path / "moved"
    shutil.copytree(tiny_model, here)
    build(emoji_folder, model=here)
    here.rename(there)
    with pytest.raises(FileNotFoundError, match=r"the model of the index was at .*/model, .* give the model"):
        ImageService.open(tmp_path / "store", device="cpu")
    ImageService.open(tmp_path / "store", model=there, device="cpu").close()
    service = ImageService.open(tmp_path / "store", device="cpu")
    assert service.status().model == str(there)
    service.close()


# Threads


def test_threads_search_while_another_adds(
    build: Callable[..., IndexReport], emoji_folder: Path, photos: list[Path], tmp_path: Path
) -> None:
    build(emoji_folder)
    service = ImageService.open(tmp_path / "store", device="cpu")
    is_over = threading.Event()

    def search() -> int:
        count = 0
        while not is_over.is_set() or count == 0:
            found = service.search("飞机", similarity_top_k=3).results
            assert [each.number for each in found] == [1, 2, 3]
            assert service.look(found[0].node_id).width
            count += 1
        return count

    with ThreadPoolExecutor(3) as pool:
        searches = [pool.submit(search) for _ in range(3)]
        try:
            for photo in photos[:4]:
                assert service.add(IndexInputs([photo])).new_images == 1
        finally:
            is_over.set()
        assert all(each.result() for each in searches)
    service.close()


def test_threads_that_add_at_the_same_time_have_reports_of_their_own(
    build: Callable[..., IndexReport], emoji_folder: Path, photos: list[Path], tmp_path: Path
) -> None:
    build(emoji_folder)
    service = ImageService.open(tmp_path / "store", device="cpu")
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda photo: service.add(IndexInputs([photo])), photos[:4]))
    assert [report.new_images for report in reports] == [1, 1, 1, 1]
    assert sorted(report.images for report in reports) == [11, 12, 13, 14]
    service.close()


def test_images_of_a_search_can_be_loaded(emoji: ImageService) -> None:
    found = emoji.search("飞机", similarity_top_k=1, filters=["number>0"])
    assert load_image(found.nodes[0]).mode == "RGB"
