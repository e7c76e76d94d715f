"""Models converted for OpenVINO give the vectors of torch, are converted once, and are never incomplete."""

from __future__ import annotations

import ast
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import start_program
from waiting import PATIENCE

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding import BackendError
from llama_index_mm_zhipu.embedding.backends import openvino as openvino_backend
from llama_index_mm_zhipu.embedding.backends.openvino import OpenVinoBackend
from llama_index_mm_zhipu.embedding.backends.openvino_runtime import (
    compile_encoder,
    core,
    has_openvino,
    import_openvino,
)
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint, load_model
from llama_index_mm_zhipu.embedding.chinese_clip.vectors import token_batch
from llama_index_mm_zhipu.testing import tiny_checkpoint

if not has_openvino():
    pytest.skip("needs OpenVINO", allow_module_level=True)

# An ordinary import would let OpenVINO report each conversion over the network, which takes two seconds offline.
openvino = import_openvino()

HAS_BF16 = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that was never converted."""
    return tiny_checkpoint(tmp_path / "model")


@pytest.fixture(scope="session")
def int8_embedding(tiny_model: Path) -> ChineseClipEmbedding:
    """The tiny model in 8 bits, converted once for all tests."""
    return ChineseClipEmbedding(str(tiny_model), backend="openvino", precision="int8")


@pytest.fixture
def converted_model(tiny_model: Path, tiny_embedding: ChineseClipEmbedding, tmp_path: Path) -> Path:
    """A copy of a model that was converted in fp32."""
    return shutil.copytree(tiny_model, tmp_path / "model", ignore=shutil.ignore_patterns("*-int8", "*-bf16"))


def converted(folder: Path) -> list[Path]:
    """Return the folders of converted models in a folder, finished or not."""
    return sorted(folder.glob("openvino*"))


@pytest.mark.parametrize(
    ("precision", "min_cosine"),
    [
        ("fp32", 0.99999),
        pytest.param("bf16", 0.999, marks=pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bf16")),
        ("int8", 0.99),
    ],
)
def test_vectors_equal_those_of_torch_at_every_length_and_batch_size(
    tiny_model: Path, photos: list[Path], texts: list[str], precision: Any, min_cosine: float
) -> None:
    ours = ChineseClipEmbedding(str(tiny_model), backend="openvino", precision=precision)
    theirs = ChineseClipEmbedding(str(tiny_model), backend="torch", device="cpu")

    for images in (photos[:1], photos[:3], photos, photos * 4):
        cosines = np.sum(
            np.asarray(ours.get_image_embedding_batch(images)) * theirs.get_image_embedding_batch(images), axis=1
        )
        assert cosines.min() >= min_cosine
    for text in texts:
        assert np.dot(ours.get_text_embedding(text), theirs.get_text_embedding(text)) >= min_cosine
    both = np.asarray(ours.get_text_embedding_batch(texts)) * theirs.get_text_embedding_batch(texts)
    assert both.sum(axis=1).min() >= min_cosine
    assert ours.running_on == f"OpenVINO on cpu in {precision}"


def test_a_model_follows_the_limit_of_threads_and_gives_the_same_vectors(
    converted_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = converted(converted_model)
    pixels = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    vectors = []
    for limit in (None, "1"):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if limit is not None:
            monkeypatch.setenv("OMP_NUM_THREADS", limit)
        request = compile_encoder(folder / "image.xml", "fp32")
        vectors.append(request.infer({0: pixels})[0].copy())
    compiled = request.get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
    np.testing.assert_allclose(*vectors, atol=1e-5)


def test_a_model_is_converted_once_beside_its_weights(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    first = ChineseClipEmbedding(str(model), backend="openvino")
    (folder,) = converted(model)
    record = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    assert min(record["least_cosines"].values()) >= 0.9999
    assert "for OpenVINO in fp32: minimum cosines to torch in fp32: images 1.0" in caplog.text
    written = {file: file.stat().st_mtime_ns for file in folder.iterdir()}

    first.close()
    again = ChineseClipEmbedding(str(model), backend="openvino")

    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == written
    assert again._model.backend.logit_scale == pytest.approx(record["logit_scale"])


@pytest.mark.usefixtures("int8_embedding")
def test_each_precision_and_each_model_is_converted_to_its_own_folder(
    tiny_model: Path, tiny_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    cache = shutil.copytree(tiny_model, tmp_path / "cache")
    of_one_model = converted(cache)
    other = tiny_checkpoint(tmp_path / "other", seed=1)
    vector = ChineseClipEmbedding(str(other), backend="openvino", cache_dir=str(cache)).get_text_embedding("飞机")

    assert {folder.name.rpartition("-")[2] for folder in of_one_model} >= {"fp32", "int8"}
    assert len(converted(cache)) == len(of_one_model) + 1
    assert not converted(other)
    assert np.dot(vector, tiny_embedding.get_text_embedding("飞机")) < 0.99


def test_batches_of_texts_are_padded_to_few_lengths(tiny_model: Path) -> None:
    # OpenVINO keeps memory for each shape.
    shapes: set[tuple[int, ...]] = set()

    class Recorded(OpenVinoBackend):
        def _run(self, encoder: Any, batch: Any) -> Any:
            shapes.add(batch.shape)
            return super()._run(encoder, batch)

    backend = Recorded(find_checkpoint(str(tiny_model)), "cpu", "fp32")
    for length in range(51):
        backend.text_vectors(token_batch([[2000] * length, [2000]]))
    assert shapes == {(2, length) for length in range(4, 53, 4)}


def test_images_in_fp32_are_embedded_one_by_one(tiny_model: Path) -> None:
    sizes: list[int] = []

    class Recorded(OpenVinoBackend):
        def _run(self, encoder: Any, batch: Any) -> Any:
            sizes.append(len(batch))
            return super()._run(encoder, batch)

    checkpoint = find_checkpoint(str(tiny_model))
    backend, side = Recorded(checkpoint, "cpu", "fp32"), checkpoint.input_resolution
    backend.image_vectors(np.zeros((5, 3, side, side), np.float32))
    assert sizes == [1] * 5


def test_a_text_does_not_wait_for_images(tiny_model: Path) -> None:
    backend = OpenVinoBackend(find_checkpoint(str(tiny_model)), "cpu", "fp32")
    with backend._locks["image"]:
        assert backend.text_vectors(token_batch([[2000]])).shape[0] == 1


OFFLINE = """
import sys
def refuse_network(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise AssertionError(f"{event} {args}")
sys.addaudithook(refuse_network)
import signal
from llama_index_mm_zhipu import ChineseClipEmbedding
signal.signal(signal.SIGINT, signal.default_int_handler)
embed = ChineseClipEmbedding(sys.argv[1], backend="openvino", precision="int8")
print(embed.get_query_embedding("飞机")[0], "torch" in sys.modules)
embed.close()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
"""Embeds a word with the model in the first argument, without network, and reports whether torch was imported."""


def run_offline(model: Path) -> tuple[list[str], str]:
    """Embed a word in a new process without network; return what it printed before Ctrl-C, in words, and stderr."""
    done = subprocess.run([sys.executable, "-c", OFFLINE, str(model)], capture_output=True, text=True, check=True)
    # Ctrl-C works after a model was converted, used and closed.
    assert done.stdout.endswith("\ninterrupted\n")
    return done.stdout.split()[:-1], done.stderr


def test_a_converted_model_needs_neither_torch_nor_the_network(
    tiny_model: Path, int8_embedding: ChineseClipEmbedding
) -> None:
    (first, with_torch), shown = run_offline(tiny_model)
    assert float(first) == pytest.approx(int8_embedding.get_query_embedding("飞机")[0])
    assert with_torch == "False"
    # On a busy machine, loading is slow enough to be reported.
    assert re.sub("Loading the model .*\n", "", shown) == ""


@pytest.mark.integration
def test_a_conversion_needs_no_network_and_shows_only_its_progress(model: Path) -> None:
    (first, with_torch), shown = run_offline(model)
    (second, without), _ = run_offline(model)
    assert first == second
    assert (with_torch, without) == ("True", "False")
    # The first start shows a progress bar, but no warnings or log lines of OpenVINO and torch.
    assert "Converting model.pt for OpenVINO, int8 (once)" in shown
    assert "CUDA" not in shown


def test_conversions_do_not_hide_what_other_threads_print(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [tiny_checkpoint(tmp_path / name, seed=seed) for seed, name in enumerate(("first", "second"))]
    before = sys.stdout
    with ThreadPoolExecutor() as pool:
        conversions = [pool.submit(ChineseClipEmbedding, model, backend="openvino") for model in models]
        printed = 0
        while not all(conversion.done() for conversion in conversions):
            print("heard")
            printed += 1
            wait(conversions, timeout=0.01)
    assert [conversion.result().running_on for conversion in conversions] == ["OpenVINO on cpu in fp32"] * 2
    assert capsys.readouterr().out.splitlines() == ["heard"] * printed
    assert sys.stdout is before
    assert all(len(converted(model)) == 1 for model in models)


def test_a_model_that_gives_other_vectors_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = openvino_backend._write_encoder

    def write_distorted(loaded: Any, *args: Any, **kwargs: Any) -> None:
        projection = loaded.visual.proj.data.clone()
        loaded.visual.proj.data = projection.roll(1, 0)
        write(loaded, *args, **kwargs)
        loaded.visual.proj.data = projection

    monkeypatch.setattr(openvino_backend, "_write_encoder", write_distorted)
    with pytest.raises(
        BackendError, match=r'gives other vectors than torch in fp32 \(minimum cosines: images .*"torch"'
    ):
        ChineseClipEmbedding(str(model), backend="openvino")
    assert not converted(model)


@pytest.mark.parametrize(("encoder", "text"), [("visual.proj", "images nan"), ("text_projection", "texts nan")])
def test_a_model_that_gives_nan_is_refused(
    encoder: str, text: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_with_nan(checkpoint: Any) -> Any:
        loaded = load_model(checkpoint)
        loaded.get_parameter(encoder).data[0] = float("nan")
        return loaded

    monkeypatch.setattr(openvino_backend, "load_model", load_with_nan)
    for precision in ("fp32", "int8"):
        with pytest.raises(BackendError, match=rf"gives other vectors than torch in fp32 \(minimum cosines: .*{text}"):
            ChineseClipEmbedding(str(model), backend="openvino", precision=precision)
    assert not converted(model)


def test_a_model_that_was_converted_with_nan_is_refused(converted_model: Path) -> None:
    (folder,) = converted(converted_model)
    record = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    record["least_cosines"]["text"] = float("nan")
    (folder / "model.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(BackendError, match=r"the weights held NaN\); delete the folder"):
        ChineseClipEmbedding(str(converted_model), backend="openvino")


def test_errors_of_openvino_are_explained(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("No conversion rule\nfound")

    monkeypatch.setattr(openvino, "save_model", fail)
    with pytest.raises(BackendError, match=r"cannot convert model\.pt \(RuntimeError: No conversion rule found\)"):
        ChineseClipEmbedding(str(model), backend="openvino")
    assert not converted(model)
    assert ChineseClipEmbedding(str(model), device="cpu").running_on == "torch on cpu in fp32"


def test_a_folder_without_record_is_not_taken_for_a_model(converted_model: Path) -> None:
    (folder,) = converted(converted_model)
    (folder / "model.json").unlink()
    with pytest.raises(BackendError, match=f"{folder.name} is in the way of a converted model: delete it"):
        ChineseClipEmbedding(str(converted_model), backend="openvino")


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_a_conversion_that_is_interrupted_or_killed_leaves_no_model(model: Path) -> None:
    # The conversion stops at its first encoder: the first time it is interrupted, the second time killed.
    code = """
import os, signal, sys
from llama_index_mm_zhipu.embedding.backends import openvino
from llama_index_mm_zhipu import ChineseClipEmbedding
def stop(loaded, encoder, file, *args, **kwargs):
    file.write_text("half a model")
    os.kill(os.getpid(), signals.pop(0))
openvino._write_encoder = stop
signals = [signal.SIGINT, signal.SIGKILL]
try:
    ChineseClipEmbedding(sys.argv[1], backend="openvino")
except KeyboardInterrupt:
    print(os.listdir(sys.argv[1]), flush=True)
ChineseClipEmbedding(sys.argv[1], backend="openvino")
"""
    with start_program(code, model, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        after_ctrl_c, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    assert set(ast.literal_eval(after_ctrl_c)) == {"config.json", "model.pt"}
    # The folder of the killed conversion is not used. While it is recent, it may belong to a running conversion.
    (left_behind,) = converted(model)
    ChineseClipEmbedding(str(model), backend="openvino").close()
    assert left_behind in converted(model)

    shutil.rmtree(next(folder for folder in converted(model) if folder != left_behind))
    os.utime(left_behind, (0, 0))
    ChineseClipEmbedding(str(model), backend="openvino")
    assert left_behind not in converted(model)


@pytest.mark.parametrize("backend", ["auto", "openvino"])
def test_ctrl_c_inside_openvino_is_deferred(model: Path, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    swallowed: list[str] = []

    def swallow(loaded: Any, encoder: str, *args: Any, **kwargs: Any) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            swallowed.append(encoder)

    monkeypatch.setattr(openvino_backend, "_write_encoder", swallow)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            ChineseClipEmbedding(model, backend=backend, device="cpu")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert swallowed == []
    assert not converted(model)


@pytest.mark.integration
def test_processes_can_convert_a_model_at_the_same_time(model: Path) -> None:
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
def test_the_error_for_a_damaged_file_says_what_to_delete(converted_model: Path, file: str) -> None:
    (folder,) = converted(converted_model)
    (folder / file).write_bytes(b"damaged")
    with pytest.raises(BackendError, match=f"delete the folder .*{folder.name}"):
        ChineseClipEmbedding(str(converted_model), backend="openvino")


def test_unsupported_devices_and_precisions_are_refused_with_advice(tiny_model: Path) -> None:
    with pytest.raises(BackendError, match="runs on the CPU, not on 'cuda'"):
        ChineseClipEmbedding(str(tiny_model), backend="openvino", device="cuda")
    with pytest.raises(BackendError, match='precision="fp16" needs a GPU'):
        ChineseClipEmbedding(str(tiny_model), backend="openvino", precision="fp16")


def test_the_error_names_the_missing_package(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_index_mm_zhipu.embedding.backends.openvino.has_openvino", lambda: False)
    with pytest.raises(BackendError, match=r'needs OpenVINO: pip install "llama-index-mm-zhipu\[openvino\]"'):
        ChineseClipEmbedding(str(tiny_model), backend="openvino", precision="bf16")
