"""``embed_dataset`` on a local Ray cluster: what is stored, what a further run does, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from llama_index.core.schema import BaseNode, ImageNode
from made_parts import folder_of, part
from PIL import Image
from pixel_engine import PixelEngine, image_of
from published_forms import FORMS, Example
from stage_transformations import Fails, LeavesOut, NameCaptions, Unreadable
from waiting import PATIENCE

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, build_index, load_index
from llama_index_mm_zhipu.distributed import DatasetSource, EmbedReport, Stage, embed_dataset
from llama_index_mm_zhipu.distributed.attempts import Attempts
from llama_index_mm_zhipu.distributed.parts import Failure, dumps, loads
from llama_index_mm_zhipu.distributed.sinks import SKIPPED
from llama_index_mm_zhipu.distributed.workers import MESSAGE, Transform, Worker, pickled
from llama_index_mm_zhipu.embedding import embed_nodes
from llama_index_mm_zhipu.images import caption_of, encode_image, page_text_of
from llama_index_mm_zhipu.index import ImageIndex
from llama_index_mm_zhipu.ingestion import ImageOcr
from llama_index_mm_zhipu.readers import ColumnReader, Columns, FolderReader, JsonlReader
from llama_index_mm_zhipu.readers.records import RecordError
from llama_index_mm_zhipu.stores import import_index
from llama_index_mm_zhipu.vector_store import ModelMismatchError, StoreError

pytestmark = pytest.mark.integration

READ_FORMS = ("folder", "article", "chinese-clip", "wukong", "parquet")
Embed = Callable[..., EmbedReport]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A local Ray cluster, which the tests use one after the other."""
    helpers = (Path(__file__).parent, Path(__file__).parents[1])
    with pytest.MonkeyPatch.context() as patch:
        # The actors import the transformations of these tests.
        patch.setenv("PYTHONPATH", os.pathsep.join([*map(str, helpers), os.environ.get("PYTHONPATH", "")]))
        ray.init(address="local", num_cpus=3, include_dashboard=False, logging_level="error")
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def embed(tiny_embedding: ChineseClipEmbedding) -> Embed:
    """``embed_dataset`` with the tiny model, one actor, and three images in a part.

    The model is that of OpenVINO, so that the actors of the many runs do not import torch.
    """

    def run(source: Any, sink: Any, **options: Any) -> EmbedReport:
        defaults = {"num_actors": 1, "nodes_per_shard": 3, "show_progress": False}
        return embed_dataset(source, tiny_embedding, sink, **{**defaults, **options})

    return run


@pytest.fixture
def folder(tmp_path: Path, photos: list[Path]) -> Path:
    """A folder with seven images, which are three parts."""
    return folder_of(photos[:7], tmp_path / "photos")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Path of a folder that is not there yet."""
    return tmp_path / "shards"


def imported(folder: Path) -> list[BaseNode]:
    """Return the nodes of shards, imported into a new store, in their order."""
    store = FaissMultiModalVectorStore()
    import_index(folder, store, show_progress=False)
    ids = [node.node_id for batch in store.iter_nodes() for node in batch]
    nodes = {node.node_id: node for node in store.get_nodes(ids, include_embeddings=True)}
    store.close()
    return [nodes[node_id] for node_id in ids]


def names(folder: Path) -> list[str]:
    return [node.node_id.rsplit("/")[-1] for node in imported(folder)]


def require_equal(nodes: Sequence[BaseNode], expected: Sequence[BaseNode]) -> None:
    """Compare nodes; vectors depend on the sizes of batches in their last digits."""
    assert [node.model_dump(exclude={"embedding"}) for node in nodes] == [
        node.model_dump(exclude={"embedding"}) for node in expected
    ]
    vectors = [np.array([node.embedding for node in each]) for each in (nodes, expected)]
    np.testing.assert_allclose(*vectors, atol=1e-5)


# What is stored


@pytest.fixture(scope="module")
def sources(examples: list[Example], tmp_path_factory: pytest.TempPathFactory) -> list[DatasetSource]:
    """Data sets in several published formats."""
    root = tmp_path_factory.mktemp("data")
    return [DatasetSource(FORMS[name].reader(), *FORMS[name].write(root / name, examples[:5])) for name in READ_FORMS]


@pytest.fixture(scope="module")
def finished(embed: Embed, sources: list[DatasetSource], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of these data sets."""
    folder = tmp_path_factory.mktemp("finished") / "shards"
    report = embed(sources, folder, caption_weight=0.3, num_actors=2)
    assert (report.nodes, report.kept, report.shards, dict(report.skipped)) == (25, 0, 10, {})
    assert report.bytes == sum(path.stat().st_size for path in folder.glob("*.parquet"))
    return folder


def nodes_of(source: DatasetSource) -> list[ImageNode]:
    return source.reader.load_data(*source.args, **source.load_kwargs)


@pytest.mark.parametrize("form", READ_FORMS)
def test_nodes_and_vectors_are_those_of_embed_nodes(
    finished: Path, sources: list[DatasetSource], tiny_embedding: ChineseClipEmbedding, form: str
) -> None:
    nodes = nodes_of(sources[READ_FORMS.index(form)])
    ids = {node.node_id for node in nodes}
    expected = embed_nodes(nodes, tiny_embedding, caption_weight=0.3).nodes
    assert len(expected) == 5
    require_equal([node for node in imported(finished) if node.node_id in ids], expected)


def test_images_are_in_the_order_of_the_sources(finished: Path, sources: list[DatasetSource]) -> None:
    expected = [node.node_id for source in sources for node in nodes_of(source)]
    assert [node.node_id for node in imported(finished)] == expected


def test_imported_shards_answer_like_an_index(
    finished: Path, sources: list[DatasetSource], tiny_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    built = build_index([node for source in sources for node in nodes_of(source)], tiny_embedding, caption_weight=0.3)
    store = FaissMultiModalVectorStore(tmp_path / "imported", namespace="image")
    import_index(finished, store, show_progress=False)
    other = load_index(
        embed_model=tiny_embedding, image_store=store, text_store=FaissMultiModalVectorStore(tmp_path / "imported")
    )
    assert (other.caption_weight, store.count()) == (0.3, 25)
    for index in (built, other):
        assert len(index.image_store.settings()) == len(built.image_store.settings())
    for question in ("红苹果", "飞机"):
        assert found(other, question) == pytest.approx(found(built, question), abs=1e-5)
    other.close()


def found(index: ImageIndex, question: str) -> dict[str, float]:
    results = index.as_retriever(similarity_top_k=25, image_similarity_top_k=25).retrieve(question)
    return {each.node_id: each.score or 0.0 for each in results}


def test_parts_go_straight_into_an_index(
    embed: Embed,
    folder: Path,
    tmp_path: Path,
    tiny_embedding: ChineseClipEmbedding,
    open_index: Callable[[Path], ImageIndex],
) -> None:
    index, checkpoint = open_index(tmp_path / "index"), tmp_path / "checkpoint"
    report = embed(folder, index, checkpoint_dir=checkpoint)
    assert (report.nodes, report.kept, report.shards, report.bytes) == (7, 0, 0, 0)
    expected = embed_nodes(FolderReader().load_data(folder), tiny_embedding, caption_weight=0).nodes
    stored = {node.node_id: node for node in index.image_store.get_nodes(include_embeddings=True)}
    require_equal([stored[node.node_id] for node in expected], expected)
    assert (embed(folder, index, checkpoint_dir=checkpoint).kept, index.image_store.count()) == (7, 7)

    # A store that was emptied meanwhile is filled again.
    index.image_store.delete_nodes([expected[0].node_id])
    report = embed(folder, index, checkpoint_dir=checkpoint)
    assert (report.nodes, report.kept, index.image_store.count()) == (7, 0, 7)


def test_an_index_without_a_checkpoint_takes_images_again_and_stores_them_once(
    embed: Embed, folder: Path, tmp_path: Path, open_index: Callable[[Path], ImageIndex]
) -> None:
    index = open_index(tmp_path / "index")
    for _ in range(2):
        report = embed(folder, index)
        assert (report.nodes, report.kept, index.image_store.count()) == (7, 0, 7)


def test_stages_come_before_the_embedding(
    embed: Embed, tmp_path: Path, shards: Path, tiny_embedding: ChineseClipEmbedding
) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    for name, text in (("a", "胎压"), ("b", "发动机舱盖"), ("c", "")):
        (folder / f"{name}.png").write_bytes(encode_image(image_of(text), "PNG"))
    engine = PixelEngine(tmp_path / "calls.jsonl")
    ocr = ImageOcr(engine, cache_path=tmp_path / "ocr.sqlite3")
    stages = [Stage(NameCaptions(), num_cpus=0), Stage(ocr, num_cpus=0.5)]
    report = embed(folder, shards, stages=stages, caption_weight=1.0, nodes_per_shard=2)
    assert (report.nodes, report.shards) == (3, 2)
    nodes = imported(shards)
    assert [page_text_of(node) for node in nodes] == ["胎压", "发动机舱盖", ""]
    captions = ["这是a.png", "这是b.png", "这是c.png"]
    assert [caption_of(node) for node in nodes] == captions
    expected = tiny_embedding.get_text_embedding_batch(captions)
    np.testing.assert_allclose([node.embedding for node in nodes], expected, atol=1e-5)


# Further runs


def test_a_further_run_embeds_what_has_changed(
    embed: Embed, folder: Path, shards: Path, photos: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    files = sorted(path.name for path in folder.iterdir())
    assert embed(folder, shards).nodes == 7
    capfd.readouterr()
    report = embed(folder, shards, show_progress=True)
    assert (report.nodes, report.kept) == (7, 7)
    output = capfd.readouterr()
    assert "Embedding images: 7image" in output.err
    assert output.out == ""

    copy(photos[8], folder / "z.jpg")
    report = embed(folder, shards)
    assert (report.nodes, report.kept, names(shards)) == (8, 6, [*files, "z.jpg"])

    copy(photos[9], folder / files[4])
    before = imported(shards)
    report = embed(folder, shards)
    after = imported(shards)
    assert (report.nodes, report.kept, names(shards)) == (8, 5, [*files, "z.jpg"])
    changed = [old.node_id.rsplit("/")[-1] for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [files[4]]

    for name in files[3:]:
        (folder / name).unlink()
    report = embed(folder, shards)
    assert (report.nodes, report.kept, names(shards)) == (4, 3, [*files[:3], "z.jpg"])
    assert len(list(shards.glob("*.parquet"))) == 2


def test_a_damaged_shard_is_made_again(
    embed: Embed, folder: Path, shards: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    embed(folder, shards)
    before = imported(shards)
    first, *_ = sorted(shards.glob("nodes-*.parquet"))
    first.write_bytes(first.read_bytes()[:-10])
    capfd.readouterr()
    report = embed(folder, shards)
    assert "Embedding again 1 of 3 parts, which are damaged or no longer stored" in capfd.readouterr().err
    assert (report.nodes, report.kept) == (7, 4)
    require_equal(imported(shards), before)


def test_images_that_were_left_out_are_listed_and_tried_again_if_asked(
    embed: Embed, folder: Path, shards: Path, tmp_path: Path
) -> None:
    bad = folder / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff and no more")
    flaky = sorted(path.name for path in folder.iterdir())[6]
    stages = [Stage(LeavesOut(name=flaky, file=str(tmp_path / "service")), num_cpus=0.5)]
    report = embed(folder, shards, stages=stages)
    assert (report.nodes, report.skipped.count) == (6, 2)
    listed = pq.read_table(shards / SKIPPED).to_pylist()
    assert {image["name"].rsplit("/")[-1] for image in listed} == {"bad.jpg", flaky}
    assert {image["name"]: image["reason"] for image in listed} == report.skipped

    (tmp_path / "service").touch()
    report = embed(folder, shards, stages=stages)
    assert (report.nodes, report.kept, report.skipped.count) == (6, 6, 2)
    report = embed(folder, shards, stages=stages, retry_skipped=True)
    assert (report.nodes, report.skipped.count) == (7, 1)
    assert 0 < report.kept < 6

    with pytest.raises(RecordError, match=r"bad\.jpg"):
        embed(folder, shards, stages=stages, on_error="raise")
    bad.unlink()
    report = embed(folder, shards, stages=stages, on_error="raise")
    assert (report.nodes, report.skipped.count, (shards / SKIPPED).exists()) == (7, 0, False)


def test_images_in_which_a_stage_fails_are_stored_and_listed(
    embed: Embed, folder: Path, shards: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (77, 50), "red").save(folder / "wide.png")
    ocr = ImageOcr(engine=Unreadable(77), cache_path=str(tmp_path / "ocr.sqlite3"))
    report = embed(folder, shards, stages=[Stage(ocr, num_cpus=0.5)])
    assert (report.nodes, report.skipped.count, report.incomplete.count) == (8, 0, 1)
    [listed] = pq.read_table(shards / SKIPPED).to_pylist()
    assert (listed["name"].rsplit("/")[-1], listed["stage"]) == ("wide.png", "ImageOcr")
    assert "this engine cannot read it" in listed["reason"]
    with pytest.raises(RecordError, match=r"wide\.png.*ImageOcr.*cannot read it"):
        embed(folder, shards, stages=[Stage(ocr, num_cpus=0.5)], on_error="raise")


def test_an_error_ends_the_run_and_what_was_embedded_stays(
    embed: Embed, folder: Path, shards: Path, tmp_path: Path
) -> None:
    lines = [f"{path.name}\t一张照片\n" for path in sorted(folder.iterdir())]
    table = tmp_path / "table.tsv"
    table.write_text("".join(["file\ttext\n", *lines, "missing.jpg\t没有\n"]), encoding="utf-8")
    source = DatasetSource(ColumnReader(Columns(caption="text", image="file", delimiter="\t")), table, images=folder)
    with pytest.raises(RecordError, match=r"table\.tsv, line 9: there is no image"):
        embed(source, shards, on_error="raise")
    assert len(list(shards.glob("nodes-*.parquet"))) == 2
    with pytest.raises(StoreError, match="unfinished"):
        imported(shards)

    # Another source does not make a whole of the half that is stored.
    assert embed(folder, shards).nodes == 7
    with pytest.raises(StoreError, match="unfinished"):
        imported(shards)
    table.write_text("".join(["file\ttext\n", *lines]), encoding="utf-8")
    report = embed(source, shards, on_error="raise")
    assert (report.nodes, report.kept) == (7, 6)
    assert len(imported(shards)) == 14


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nodes_per_shard": 4}, r"were made with nodes_per_shard=3, not 4"),
        ({"vectors": "float16"}, r"were made with vectors='float32', not 'float16'"),
        ({"caption_weight": 0.5}, r"were made with caption_weight=0.3, not 0.5"),
        ({"stages": [Stage(NameCaptions())]}, r"were made with stages=\[\], not \['NameCaptions'\]"),
    ],
)
def test_other_settings_are_refused_and_the_folder_stays_finished(
    embed: Embed,
    finished: Path,
    sources: list[DatasetSource],
    shards: Path,
    options: dict[str, Any],
    message: str,
) -> None:
    copytree(finished, shards)
    with pytest.raises(ValueError, match=message):
        embed(sources, shards, **{"caption_weight": 0.3, **options})
    assert len(imported(shards)) == 25


def test_another_model_is_refused(
    finished: Path, sources: list[DatasetSource], shards: Path, demo_embedding: ChineseClipEmbedding
) -> None:
    copytree(finished, shards)
    with pytest.raises(ModelMismatchError, match=r"were embedded with the model .* choose another folder"):
        embed_dataset(sources, demo_embedding, shards, caption_weight=0.3, nodes_per_shard=3)
    assert len(imported(shards)) == 25


def test_a_folder_without_images_is_an_error(embed: Embed, tmp_path: Path, shards: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=rf"nothing to embed: no images in {tmp_path}/empty"):
        embed(tmp_path / "empty", shards)


def test_more_actors_than_fit_are_refused(embed: Embed, folder: Path, shards: Path) -> None:
    with pytest.raises(ValueError, match=r"the actors need 5 CPUs, and the Ray cluster has 3: give fewer actors"):
        embed(folder, shards, num_actors=4, stages=[Stage(NameCaptions())])
    with pytest.raises(ValueError, match=r"the actors need 1 GPUs, and the Ray cluster has 0"):
        embed(folder, shards, num_gpus=1)


def test_another_cluster_than_that_of_the_process_is_refused(embed: Embed, folder: Path, shards: Path) -> None:
    with pytest.raises(ValueError, match=r"connected to the Ray cluster at .+, not to 10\.0\.0\.1:6379"):
        embed(folder, shards, address="10.0.0.1:6379")


@pytest.mark.parametrize("name", ["num_cpus", "num_gpus"])
def test_negative_shares_are_refused(embed: Embed, folder: Path, shards: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is -1; it must be at least 0"):
        embed(folder, shards, **{name: -1})


def test_a_reader_that_cannot_be_sent_is_an_error(embed: Embed, folder: Path, shards: Path) -> None:
    reader = FolderReader()
    reader.encoding = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(TypeError, match="pickle"):
        embed(DatasetSource(reader, folder), shards)


def test_errors_of_stages_name_the_machine_and_hold_no_secrets(
    embed: Embed, shards: Path, demo_folder: Path, key: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PermissionError, match=r"the service refuses the key \(on .+\)") as caught:
        embed(DatasetSource(JsonlReader(), demo_folder / "test.jsonl"), shards, stages=[Stage(Fails(api_key=key))])
    output = "".join(capfd.readouterr()) + str(caught.value)
    assert key not in output
    assert "iVBOR" not in output
    assert "/9j/" not in output


def test_images_that_end_their_process_again_and_again_are_named() -> None:
    attempts = ray.remote(Attempts).options(num_cpus=0).remote()
    worker = Worker(pickled(Transform(NameCaptions()), "NameCaptions"), str(Path.cwd()), attempts)
    batch = {MESSAGE: [dumps(part("a", "b"))]}
    answers = [loads(worker(batch)[MESSAGE][0]) for _ in range(6)]
    assert not any(isinstance(answer, Failure) for answer in answers[:5])
    assert isinstance(answers[5], Failure)
    assert "ended 5 times during work on the images from a to b" in str(answers[5].error)


def test_an_address_without_a_cluster_is_an_error_and_the_process_goes_on(
    folder: Path, shards: Path, tiny_model: Path
) -> None:
    program = f"""
        import time
        from llama_index_mm_zhipu import ChineseClipEmbedding
        from llama_index_mm_zhipu.distributed import embed_dataset

        model = ChineseClipEmbedding(model_name={str(tiny_model)!r}, device="cpu")
        for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port"):
            try:
                embed_dataset({str(folder)!r}, model, {str(shards)!r}, address=address)
            except (ConnectionError, ValueError) as error:
                print(address, "->", type(error).__name__, error)
        print("goes on")
    """
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(" -> ")[0] for line in lines] == [
        "127.0.0.1:1",
        "ray://127.0.0.1:1",
        "127.0.0.1:port",
        "goes on",
    ]
    assert "there is no Ray cluster at 127.0.0.1:1" in lines[0]
