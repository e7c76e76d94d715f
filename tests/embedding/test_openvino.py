"""Models converted for OpenVINO give torch's vectors, are converted once, and never half."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding import BackendError, openvino_conversion
from llama_index_mm_zhipu.embedding.checkpoint import find_checkpoint
from llama_index_mm_zhipu.embedding.openvino_backend import OpenVinoBackend
from llama_index_mm_zhipu.embedding.tokenizer import token_batch
from llama_index_mm_zhipu.testing import tiny_checkpoint

openvino = pytest.importorskip("openvino")

HAS_BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that was never converted."""
    return tiny_checkpoint(tmp_path / "model")


def converted(folder: Path) -> list[Path]:
    """The folders of converted models in a folder, finished or not."""
    return sorted(folder.glob("openvino*"))


@pytest.mark.parametrize(
    ("precision", "least_cosine"),
    [
        ("fp32", 0.99999),
        pytest.param("bf16", 0.999, marks=pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bf16")),
        ("int8", 0.99),
    ],
)
def test_vectors_are_those_of_torch_at_every_length_and_batch_size(
    tiny_model: Path, photos: list[Path], texts: list[str], precision: Any, least_cosine: float
) -> None:
    ours = ChineseClipEmbedding(str(tiny_model), backend="openvino", precision=precision)
    theirs = ChineseClipEmbedding(str(tiny_model), backend="torch", device="cpu")

    for pictures in (photos[:1], photos[:3], photos, photos * 4):
        cosines = np.sum(
            np.asarray(ours.get_image_embedding_batch(pictures)) * theirs.get_image_embedding_batch(pictures), axis=1
        )
        assert cosines.min() >= least_cosine
    for text in texts:
        assert np.dot(ours.get_text_embedding(text), theirs.get_text_embedding(text)) >= least_cosine
    both = np.asarray(ours.get_text_embedding_batch(texts)) * theirs.get_text_embedding_batch(texts)
    assert both.sum(axis=1).min() >= least_cosine
    assert ours.running_on == f"OpenVINO on cpu in {precision}"


def test_a_model_is_converted_once_beside_its_weights(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first = ChineseClipEmbedding(str(model), backend="openvino")
    (folder,) = converted(model)
    record = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert min(record["least_cosines"].values()) >= 0.9999
    assert "for OpenVINO in fp32: least cosines to torch in fp32: images 1.0" in caplog.text
    written = {file: file.stat().st_mtime_ns for file in folder.iterdir()}

    first.close()
    again = ChineseClipEmbedding(str(model), backend="openvino")

    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == written
    assert again._loaded.logit_scale == pytest.approx(record["logit_scale"])


def test_precisions_and_weights_are_kept_apart(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    other = tiny_checkpoint(tmp_path / "other", seed=1)
    for weights, precision in ((model, "fp32"), (model, "int8"), (other, "fp32")):
        ChineseClipEmbedding(str(weights), backend="openvino", precision=precision, cache_dir=str(cache))  # type: ignore[arg-type]
    assert len(converted(cache)) == 3
    assert not converted(model)


def test_batches_of_texts_of_all_lengths_come_to_openvino_in_few_shapes(tiny_model: Path) -> None:
    # It keeps memory for each of them.
    shapes: set[tuple[int, ...]] = set()

    class Recorded(OpenVinoBackend):
        def _run(self, tower: Any, batch: Any) -> Any:
            shapes.add(batch.shape)
            return super()._run(tower, batch)

    backend = Recorded(find_checkpoint(str(tiny_model)), "cpu", "fp32")
    for length in range(51):
        backend.text_vectors(token_batch([[2000] * length, [2000]]))
    assert shapes == {(2, length) for length in range(4, 53, 4)}


def test_the_second_start_needs_no_torch_and_the_network_never(model: Path) -> None:
    code = """
import sys
def refuse_network(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise AssertionError(f"{event} {args}")
sys.addaudithook(refuse_network)
from llama_index_mm_zhipu import ChineseClipEmbedding
embed = ChineseClipEmbedding(sys.argv[1], backend="openvino", precision="int8")
print(embed.get_query_embedding("飞机")[0], "torch" in sys.modules)
"""
    outputs = [
        subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    (first, with_torch), (second, without) = (output.stdout.split() for output in outputs)
    assert first == second
    assert (with_torch, without) == ("True", "False")
    # A progress bar the first time; nothing of what OpenVINO, nncf and torch say about their insides.
    assert "Converting model.pt for OpenVINO, int8 (once)" in outputs[0].stderr
    assert "CUDA" not in outputs[0].stderr
    assert outputs[1].stderr == ""


def test_nncf_is_left_as_it_was_found(model: Path) -> None:
    code = """
import logging, sys
from llama_index_mm_zhipu import ChineseClipEmbedding
ChineseClipEmbedding(sys.argv[1], backend="openvino", precision="int8")
logging.getLogger("nncf").info("still heard")
"""
    done = subprocess.run([sys.executable, "-c", code, str(model)], capture_output=True, text=True, check=True)
    assert done.stdout == "INFO:nncf:still heard\n"
    assert "Logging error" not in done.stderr


def test_threads_that_convert_leave_stdout_to_the_others(tmp_path: Path) -> None:
    code = """
import sys, threading
from llama_index_mm_zhipu import ChineseClipEmbedding
before = sys.stdout
asked = {"backend": "openvino"}
threads = [threading.Thread(target=ChineseClipEmbedding, args=(model,), kwargs=asked) for model in sys.argv[1:]]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    print("heard")
    threads[0].join(0.01)
    threads[1].join(0.01)
print(sys.stdout is before)
"""
    models = [str(tiny_checkpoint(tmp_path / name, seed=seed)) for seed, name in enumerate(("first", "second"))]
    done = subprocess.run([sys.executable, "-c", code, *models], capture_output=True, text=True, check=True)
    heard, last = done.stdout.splitlines()[:-1], done.stdout.splitlines()[-1]
    assert set(heard) == {"heard"}
    assert len(heard) > 20
    assert last == "True"
    assert all(len(converted(Path(model))) == 1 for model in models)


def test_a_model_that_gives_other_vectors_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = openvino_conversion._write_tower

    def write_distorted(loaded: Any, *args: Any, **kwargs: Any) -> None:
        projection = loaded.visual.proj.data.clone()
        loaded.visual.proj.data = projection.roll(1, 0)
        write(loaded, *args, **kwargs)
        loaded.visual.proj.data = projection

    monkeypatch.setattr(openvino_conversion, "_write_tower", write_distorted)
    with pytest.raises(BackendError, match=r'gives other vectors than torch in fp32 \(least cosines: images .*"torch"'):
        ChineseClipEmbedding(str(model), backend="openvino")
    assert not converted(model)


def test_what_openvino_cannot_convert_is_said_so(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("No conversion rule\nfound")

    monkeypatch.setattr(openvino, "save_model", fail)
    with pytest.raises(BackendError, match=r"cannot convert model\.pt \(RuntimeError: No conversion rule found\)"):
        ChineseClipEmbedding(str(model), backend="openvino")
    assert not converted(model)
    assert ChineseClipEmbedding(str(model), device="cpu").running_on == "torch on cpu in fp32"


def test_a_folder_without_record_is_not_taken_for_a_model(model: Path) -> None:
    ChineseClipEmbedding(str(model), backend="openvino").close()
    (folder,) = converted(model)
    (folder / "model.json").unlink()
    with pytest.raises(BackendError, match=f"{folder.name} is in the way of a converted model: delete it"):
        ChineseClipEmbedding(str(model), backend="openvino")


def test_a_conversion_that_is_broken_off_leaves_nothing(model: Path) -> None:
    code = """
import os, signal, sys
from llama_index_mm_zhipu.embedding import openvino_conversion
from llama_index_mm_zhipu import ChineseClipEmbedding
write = openvino_conversion._write_tower
def interrupted(loaded, tower, *args, **kwargs):
    write(loaded, tower, *args, **kwargs)
    if tower == "text":
        os.kill(os.getpid(), signal.SIGINT if sys.argv[2] == "Ctrl-C" else signal.SIGKILL)
openvino_conversion._write_tower = interrupted
ChineseClipEmbedding(sys.argv[1], backend="openvino")
"""
    for how, left in (("Ctrl-C", 0), ("kill", 1)):
        found = subprocess.run([sys.executable, "-c", code, str(model), how], capture_output=True, check=False)
        assert found.returncode != 0
        assert len(converted(model)) == left
    # What a kill leaves is not taken for a model; while it is young, it may be of a conversion that goes on.
    (left_behind,) = converted(model)
    ChineseClipEmbedding(str(model), backend="openvino").close()
    assert left_behind in converted(model)

    shutil.rmtree(next(folder for folder in converted(model) if folder != left_behind))
    os.utime(left_behind, (0, 0))
    ChineseClipEmbedding(str(model), backend="openvino")
    assert left_behind not in converted(model)


def test_processes_that_convert_at_once_agree(model: Path) -> None:
    code = """
import sys
from llama_index_mm_zhipu import ChineseClipEmbedding
print(ChineseClipEmbedding(sys.argv[1], backend="openvino").get_text_embedding("飞机")[:3])
"""
    command = [sys.executable, "-c", code, str(model)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
    answers = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(answers) == 1
    assert len(converted(model)) == 1


@pytest.mark.parametrize("file", ["model.json", "text.xml", "image.bin"])
def test_a_damaged_file_is_named_with_what_to_do(model: Path, file: str) -> None:
    ChineseClipEmbedding(str(model), backend="openvino").close()
    (folder,) = converted(model)
    (folder / file).write_bytes(b"damaged")
    with pytest.raises(BackendError, match=f"delete the folder .*{folder.name}"):
        ChineseClipEmbedding(str(model), backend="openvino")


def test_what_openvino_cannot_do_is_refused_with_advice(tiny_model: Path) -> None:
    with pytest.raises(BackendError, match="runs on the CPU, not on 'cuda'"):
        ChineseClipEmbedding(str(tiny_model), backend="openvino", device="cuda")
    with pytest.raises(BackendError, match='precision="fp16" needs a GPU'):
        ChineseClipEmbedding(str(tiny_model), backend="openvino", precision="fp16")


def test_what_is_not_installed_is_named(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_index_mm_zhipu.embedding.openvino_backend.has_openvino", lambda: False)
    with pytest.raises(BackendError, match=r'needs OpenVINO: pip install "llama-index-mm-zhipu\[openvino\]"'):
        ChineseClipEmbedding(str(tiny_model), backend="openvino", precision="bf16")


def test_nncf_is_needed_for_8_bits_only(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    ChineseClipEmbedding(str(model), backend="openvino")
    with pytest.raises(BackendError, match=r'"int8" needs nncf for the conversion: pip install'):
        ChineseClipEmbedding(str(model), backend="openvino", precision="int8")
