"""An index in a folder is exported and imported without its model, and nothing is created for bad input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index
from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.service.inputs import IndexInputs
from llama_index_mm_zhipu.service.moving import export_folder, import_folder
from llama_index_mm_zhipu.service.status import status_of
from llama_index_mm_zhipu.vector_store.errors import ModelMismatchError, StoreError

pytestmark = pytest.mark.integration

pytest.importorskip("pyarrow")


@pytest.fixture
def store(emoji_folder: Path, tiny_embedding: ChineseClipEmbedding, tmp_path: Path) -> Path:
    """Folder of an index of ten images."""
    build_index(emoji_folder, tiny_embedding, persist_dir=tmp_path / "store").close()
    return tmp_path / "store"


@pytest.fixture
def exported(store: Path, tmp_path: Path) -> Path:
    """Folder of an export of the index."""
    export_folder(store, tmp_path / "export", show_progress=False)
    return tmp_path / "export"


def test_an_imported_index_answers_as_the_exported_one(store: Path, exported: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert import_folder(exported, copy, show_progress=False).nodes == 10
    assert import_folder(exported, copy, show_progress=False).kept == 10
    of_copy, of_store = (status_of(folder).as_dict() for folder in (copy, store))
    assert {**of_copy, "folder": "", "bytes": 0} == {**of_store, "folder": "", "bytes": 0}
    one, other = (ImageService.open(folder, device="cpu") for folder in (store, copy))
    assert one.search("飞机").results == other.search("飞机").results
    one.close()
    other.close()


def test_moving_loads_no_model(store: Path, tiny_model: Path, exported: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    shutil.copytree(tiny_model, gone)
    inputs = IndexInputs([tmp_path / "emoji"])
    ImageService.build(inputs, tmp_path / "other", model=gone, device="cpu")[0].close()
    shutil.rmtree(gone)
    assert export_folder(tmp_path / "other", tmp_path / "other export", show_progress=False).nodes == 10


def test_a_folder_without_an_index_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"no index in {tmp_path}/none"):
        export_folder(tmp_path / "none", tmp_path / "export", show_progress=False)
    assert [*tmp_path.iterdir()] == []


def test_nothing_is_created_for_a_folder_without_a_finished_export(exported: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    with pytest.raises(FileNotFoundError, match=r"no export of an index in .*/emoji"):
        import_folder(tmp_path / "emoji", copy, show_progress=False)
    manifest = exported / "texts" / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({**content, "complete": False}), encoding="utf-8")
    with pytest.raises(StoreError, match="unfinished export"):
        import_folder(exported, copy, show_progress=False)
    manifest.unlink()
    with pytest.raises(FileNotFoundError, match=r"no manifest\.json"):
        import_folder(exported, copy, show_progress=False)
    assert not copy.exists()


def test_an_index_of_another_model_takes_no_export(
    exported: Path, demo_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    build_index(tmp_path / "emoji", demo_embedding, persist_dir=other).close()
    with pytest.raises(ModelMismatchError):
        import_folder(exported, other, show_progress=False)
    assert status_of(other).images == 10
