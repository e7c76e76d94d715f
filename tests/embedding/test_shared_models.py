"""The backend is chosen by machine and settings, and a model is loaded once per process."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import ref

import pytest

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding import BackendError, CheckpointError
from llama_index_mm_zhipu.embedding.backends import openvino
from llama_index_mm_zhipu.embedding.chinese_clip import shared_models
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint
from llama_index_mm_zhipu.embedding.chinese_clip.shared_models import ModelSettings, SharedModel
from llama_index_mm_zhipu.testing import tiny_checkpoint


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Types of the backends that are loaded during the test."""
    loaded: list[str] = []
    load = shared_models._load

    def record(settings: ModelSettings, backend_type: str, *args: object) -> object:
        loaded.append(backend_type)
        return load(settings, backend_type, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(shared_models, "_load", record)
    return loaded


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that no other test has loaded."""
    return tiny_checkpoint(tmp_path / "model")


@pytest.mark.parametrize(
    ("machine", "asked", "chosen"),
    [
        # (best device, whether OpenVINO is installed), (backend, device, precision) given, and the same chosen
        (("cpu", True), ("auto", "auto", None), ("openvino", "cpu", "fp32")),
        (("cpu", True), ("auto", "cpu", "int8"), ("openvino", "cpu", "int8")),
        (("cpu", True), ("torch", "auto", None), ("torch", "cpu", "fp32")),
        (("cpu", False), ("auto", "auto", None), ("torch", "cpu", "fp32")),
        (("cpu", False), ("auto", "auto", "bf16"), ("torch", "cpu", "bf16")),
        (("cuda", True), ("auto", "auto", None), ("torch", "cuda", "fp16")),
        (("cuda", True), ("auto", "cuda:1", "bf16"), ("torch", "cuda:1", "bf16")),
        (("cuda", True), ("auto", "cpu", None), ("openvino", "cpu", "fp32")),
        (("cuda", True), ("openvino", "auto", None), ("openvino", "cpu", "fp32")),
        (("mps", True), ("auto", "auto", None), ("torch", "mps", "fp32")),
    ],
)
@pytest.mark.usefixtures("needs_openvino")
def test_the_backend_is_chosen_by_machine_and_settings(
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    machine: tuple[str, bool],
    asked: tuple[str, str, str | None],
    chosen: tuple[str, str, str],
) -> None:
    best_device, has_openvino = machine
    monkeypatch.setattr(shared_models, "_best_device", lambda: best_device)
    monkeypatch.setattr(shared_models, "has_openvino", lambda: has_openvino)
    settings = ModelSettings(find_checkpoint(str(tiny_model)), *asked)  # type: ignore[arg-type]
    assert shared_models._choose_backend(settings) == chosen


def test_objects_with_the_same_model_share_it(model: Path, loads: list[str]) -> None:
    first = ChineseClipEmbedding(str(model), backend="torch")
    others = [
        ChineseClipEmbedding(str(model), backend="torch", embed_batch_size=2, long_text="mean"),
        ChineseClipEmbedding(f"{model}/../{model.name}", backend="torch"),
        copy.deepcopy(first),
        pickle.loads(pickle.dumps(first)),
        ChineseClipEmbedding.from_dict(first.to_dict()),
    ]
    assert loads == ["torch"]
    assert {id(other._model.backend) for other in others} == {id(first._model.backend)}


def test_new_weights_in_the_same_file_are_another_model(model: Path, tmp_path: Path, loads: list[str]) -> None:
    old = ChineseClipEmbedding(str(model), backend="torch")
    shutil.copytree(tiny_checkpoint(tmp_path / "other", seed=1), model, dirs_exist_ok=True)
    new = ChineseClipEmbedding(str(model), backend="torch")
    assert loads == ["torch", "torch"]
    assert old.get_text_embedding("飞机") != new.get_text_embedding("飞机")


def test_threads_load_a_model_once(model: Path, loads: list[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ChineseClipEmbedding(str(model), backend="torch"), range(8)))
    assert loads == ["torch"]
    assert len({id(one._model.backend) for one in made}) == 1


def test_closing_frees_the_weights_unless_another_object_uses_them(model: Path, loads: list[str]) -> None:
    first = ChineseClipEmbedding(str(model), backend="torch")
    second = ChineseClipEmbedding(str(model), backend="torch")
    vector = first.get_text_embedding("飞机")
    weights = ref(first._model.backend)

    first.close()
    gc.collect()
    assert weights() is not None
    second.close()
    gc.collect()
    assert weights() is None

    assert first.get_text_embedding("飞机") == vector
    assert loads == ["torch", "torch"]


def test_a_closed_model_is_loaded_again_by_warmup(model: Path, loads: list[str]) -> None:
    embed = ChineseClipEmbedding(str(model), backend="torch")
    embed.close()
    embed.warmup()
    assert loads == ["torch", "torch"]


def test_weights_that_changed_on_disk_have_no_fingerprint(model: Path, tmp_path: Path) -> None:
    # With the fingerprint of the new weights, an index would mix vectors of both.
    embed = ChineseClipEmbedding(str(model), backend="torch")
    before = embed.get_query_embedding("飞机")
    shutil.copytree(tiny_checkpoint(tmp_path / "other", seed=1), model, dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match=r"model\.pt was changed after it was loaded: close\(\) this model"):
        _ = embed.fingerprint

    embed.close()
    assert embed.get_query_embedding("飞机") == embed.get_text_embedding("飞机") != before
    assert embed.fingerprint == ChineseClipEmbedding(str(model), backend="torch").fingerprint
    shutil.rmtree(model)
    with pytest.raises(CheckpointError, match=r"model\.pt cannot be read any more: No such file"):
        _ = embed.fingerprint


def test_a_failed_conversion_is_not_repeated(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, loads: list[str]
) -> None:
    monkeypatch.setitem(openvino.MIN_COSINES, "fp32", 1.1)
    for _ in range(3):
        ChineseClipEmbedding(str(model), device="cpu").close()
    assert loads.count("openvino") == 1
    assert len(caplog.records) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_process_gets_an_error_that_advises_to_spawn(model: Path) -> None:
    embed = ChineseClipEmbedding(str(model), backend="torch", device="cpu")
    embed.get_text_embedding("飞机")
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        try:
            embed.get_text_embedding("汽车")
        except BackendError as error:
            os.write(sender, str(error).encode())
        # torch's threads do not exist in this process: an ordinary exit would wait for them.
        os._exit(0)
    os.waitpid(child, 0)
    os.close(sender)
    answer = os.read(receiver, 10_000).decode()
    os.close(receiver)
    assert "loaded before this process was forked: start processes by spawn" in answer


def test_settings_of_a_loaded_model_cannot_be_changed(model: Path) -> None:
    embed = ChineseClipEmbedding(model, backend="torch", cache_dir=model)
    assert embed.model_name == embed.cache_dir == str(model)
    with pytest.raises(ValueError, match="frozen"):
        embed.precision = "bf16"


@pytest.mark.parametrize("device", ["cuda:99", "banana", "CPU"])
def test_the_error_names_a_missing_device(model: Path, device: str) -> None:
    with pytest.raises(BackendError, match=f"torch cannot use the device '{device}' here"):
        ChineseClipEmbedding(str(model), backend="torch", device=device)


def test_pickles_contain_no_weights(model: Path) -> None:
    embed = ChineseClipEmbedding(str(model), backend="torch")
    assert len(pickle.dumps(embed)) < 5_000
    assert len(pickle.dumps(SharedModel(embed._model.settings))) < 5_000


def test_a_model_without_weights_cannot_be_unpickled(tmp_path: Path) -> None:
    weights = tiny_checkpoint(tmp_path / "clip")
    pickled = pickle.dumps(ChineseClipEmbedding(str(weights), backend="torch"))
    shutil.rmtree(weights)
    with pytest.raises(CheckpointError, match=re.escape(str(weights))):
        pickle.loads(pickled)


def test_auto_falls_back_to_torch_and_logs_why(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    no_folder = str(tmp_path / "file" / "cache")

    embed = ChineseClipEmbedding(str(model), device="cpu", cache_dir=no_folder)

    assert embed.running_on == "torch on cpu in fp32"
    assert "torch is used instead of OpenVINO" in caplog.text
    assert "give another cache_dir" in caplog.text
    for asked in ({"backend": "openvino"}, {"precision": "int8"}):
        with pytest.raises(BackendError, match=r"cannot be written to .* give another cache_dir"):
            ChineseClipEmbedding(str(model), device="cpu", cache_dir=no_folder, **asked)
