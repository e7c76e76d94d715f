"""Chinese-CLIP in OpenVINO, on CPUs.

A checkpoint is converted once per precision, compared with torch, and kept in a folder beside the weights:
``image.xml`` and ``text.xml`` with their weights, and ``model.json``, which is written last.
"""

from __future__ import annotations

import glob
import json
import logging
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from llama_index_mm_zhipu.concurrency import FairLock
from llama_index_mm_zhipu.embedding.backends import CPU_BATCH, BackendError, Precision, Vectors, short_detail
from llama_index_mm_zhipu.embedding.backends.openvino_int8 import quantize_products
from llama_index_mm_zhipu.embedding.backends.openvino_runtime import (
    EXTRA,
    compile_encoder,
    core,
    has_openvino,
    import_openvino,
    interrupts_deferred,
)
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import Checkpoint, load_model
from llama_index_mm_zhipu.embedding.chinese_clip.vectors import PADDING
from llama_index_mm_zhipu.shared_folders import old_paths

if TYPE_CHECKING:
    from cn_clip.clip.model import CLIP

    from llama_index_mm_zhipu.embedding.backends.encoders import Encoder

logger = logging.getLogger(__name__)

MIN_COSINES: dict[Precision, float] = {"fp32": 0.9999, "bf16": 0.999}
"""Minimum cosine between converted vectors and those of torch in fp32. That of int8 is only reported."""

_FORMAT = "openvino-2"
_RECORD = "model.json"
_BATCH_SIZES = (1, 2, 5)
_TEXT_LENGTHS = (3, 9, 27, 52)

# OpenVINO prepares itself for each new shape, which takes 5 ms and memory that it keeps. Batches of texts are padded to
# multiples of this length, a single query is not.
_LENGTH_STEP = 4

# Warning filters belong to the process: only one thread may change them.
_converting = threading.Lock()


class OpenVinoBackend:
    """A converted model on the CPU. torch is only needed for the conversion.

    Attributes:
        name: ``"OpenVINO"``.
        device: ``"cpu"``.
        precision: ``"fp32"``, ``"bf16"`` or ``"int8"`` (8-bit weights, activations quantised at run time).
        logit_scale: Learned factor between cosines and logits.
    """

    name = "OpenVINO"

    def __init__(
        self, checkpoint: Checkpoint, device: str, precision: Precision, cache_dir: Path | None = None
    ) -> None:
        """Load a converted model; convert it first if necessary.

        Raises:
            CheckpointError: The weights are damaged, or belong to another architecture.
            BackendError: OpenVINO is not installed or does not support the device or precision; or the converted model
                cannot be written, or its vectors differ from those of torch.
        """
        _require_support(device, precision)
        self.device, self.precision = device, precision
        # In fp32, an image takes about as long alone as in a pass of eight, and short passes let queries in between.
        self._batch_size = 1 if precision == "fp32" else CPU_BATCH
        converted = converted_model(checkpoint, precision, cache_dir)
        self.logit_scale = converted.logit_scale
        self._encoders = {encoder: compile_encoder(file, precision) for encoder, file in converted.files.items()}
        # A request runs one pass at a time, which OpenVINO distributes over all cores.
        self._locks = {encoder: FairLock() for encoder in self._encoders}

    def image_vectors(self, pixels: npt.NDArray[np.float32]) -> Vectors:
        """Embed preprocessed images of shape ``(n, 3, side, side)``.

        Returns:
            Unit vectors of shape ``(n, embed_dim)``.
        """
        size = self._batch_size
        batches = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        return np.concatenate([self._run("image", batch) for batch in batches])

    def text_vectors(self, tokens: npt.NDArray[np.int64]) -> Vectors:
        """Embed tokens of shape ``(n, length)`` in one forward pass.

        Returns:
            Unit vectors of shape ``(n, embed_dim)``.
        """
        missing = -tokens.shape[1] % _LENGTH_STEP if len(tokens) > 1 else 0
        return self._run("text", np.pad(tokens, ((0, 0), (0, missing)), constant_values=PADDING))

    def _run(self, encoder: Encoder, batch: npt.NDArray[Any]) -> Vectors:
        with self._locks[encoder]:
            # Copied, because OpenVINO writes the next result to the same memory.
            vectors: Vectors = self._encoders[encoder].infer({0: batch}, share_inputs=True)[0].copy()
        return vectors


@dataclass(frozen=True)
class ConvertedModel:
    """A model in the format of OpenVINO.

    Attributes:
        folder: Folder of its files.
        logit_scale: Learned factor between cosines and logits.
        min_cosines: Minimum cosine between its vectors and those of torch in fp32 at the conversion, per encoder.
    """

    folder: Path
    logit_scale: float
    min_cosines: Mapping[Encoder, float]

    @property
    def files(self) -> dict[Encoder, Path]:
        """The file of each encoder, which has its weights beside it."""
        return _files_in(self.folder)


def converted_model(checkpoint: Checkpoint, precision: Precision, cache_dir: Path | None = None) -> ConvertedModel:
    """Return the converted model of a checkpoint; convert it if necessary, which takes some 15 s for ViT-B-16.

    Args:
        checkpoint: The weights. Their hash is part of the folder's name.
        precision: ``"fp32"``, ``"bf16"`` (the same weights as fp32, compared in bf16) or ``"int8"``.
        cache_dir: Folder for converted models; None takes the folder of the weights.

    Raises:
        CheckpointError: The weights are damaged, or belong to another architecture.
        BackendError: The folder cannot be written, or the vectors differ from those of torch.
    """
    folder = (cache_dir or checkpoint.path.parent) / f"{_FORMAT}-{checkpoint.content_hash()}-{precision}"
    return _read_record(folder) or _convert(checkpoint, precision, folder)


def _require_support(device: str, precision: Precision) -> None:
    if not has_openvino():
        raise BackendError(f'backend="openvino" needs OpenVINO: {EXTRA}')
    if device != "cpu":
        raise BackendError(f'backend="openvino" runs on the CPU, not on {device!r}: take backend="torch" there')
    if precision == "fp16":
        raise BackendError('precision="fp16" needs a GPU and backend="torch"; on a CPU take "fp32", "bf16" or "int8"')
    if precision == "bf16" and "BF16" not in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BackendError('this CPU has no bf16 instructions: take precision="fp32" or "int8"')


def _files_in(folder: Path) -> dict[Encoder, Path]:
    return {"image": folder / "image.xml", "text": folder / "text.xml"}


def _read_record(folder: Path) -> ConvertedModel | None:
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        cosines = record["least_cosines"]
        if not np.isfinite([cosines["image"], cosines["text"]]).all():
            raise ValueError("its vectors are not numbers: the weights held NaN")
        return ConvertedModel(folder, record["logit_scale"], cosines)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackendError(
            f"{folder / _RECORD} cannot be read ({error}); delete the folder {folder}, and it will be converted again"
        ) from None


def _convert(checkpoint: Checkpoint, precision: Precision, folder: Path) -> ConvertedModel:
    title = f"Converting {checkpoint.path.name} for OpenVINO, {precision} (once)"
    with _complete_folder(folder) as unfinished, tqdm(total=5, desc=title, leave=False) as bar, _quiet_conversion():
        model = load_model(checkpoint).float()
        compress = _fits_fp16(model)
        bar.update()
        for encoder, file in _files_in(unfinished).items():
            with _conversion_errors(checkpoint), interrupts_deferred():
                _write_encoder(model, encoder, file, checkpoint.input_resolution, precision, compress=compress)
            bar.update()
        with interrupts_deferred():
            cosines = _min_cosines(model, _files_in(unfinished), checkpoint.input_resolution, precision)
        bar.update()
        _refuse_or_report(cosines, precision, checkpoint)
        scale = float(model.logit_scale.exp())
        # The names in the record are part of the format on disk.
        record = {"struct": checkpoint.architecture, "logit_scale": scale, "least_cosines": cosines}
        (unfinished / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        bar.update()
    return ConvertedModel(folder, scale, cosines)


@contextmanager
def _complete_folder(folder: Path) -> Iterator[Path]:
    """Provide a temporary folder that is renamed to ``folder`` at the end, so that nobody sees a part of a model."""
    if folder.exists():
        raise _in_the_way(folder)
    for left_behind in old_paths(folder.parent, f"{glob.escape(folder.name)}.????????"):
        shutil.rmtree(left_behind, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise BackendError(
            f"the converted model cannot be written to {folder.parent} ({error.strerror}): give another cache_dir, "
            'or take backend="torch"'
        ) from None
    try:
        yield unfinished
        unfinished.chmod(0o755)
        try:
            unfinished.rename(folder)
        except OSError:
            # Another process may have converted the same model meanwhile, with the same result.
            if not (folder / _RECORD).is_file():
                raise _in_the_way(folder) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _in_the_way(folder: Path) -> BackendError:
    return BackendError(f"{folder} is in the way of a converted model: delete it")


@contextmanager
def _quiet_conversion() -> Iterator[None]:
    """Hide warnings of torch and OpenVINO about their internals."""
    with _converting, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _conversion_errors(checkpoint: Checkpoint) -> Iterator[None]:
    """Raise the various errors of OpenVINO as a ``BackendError`` that says what to do."""
    try:
        yield
    except BackendError:
        raise
    except Exception as error:
        detail = short_detail(f"{type(error).__name__}: {error}")
        raise BackendError(
            f'OpenVINO cannot convert {checkpoint.path.name} ({detail}): take backend="torch"'
        ) from error


def _write_encoder(
    model: CLIP, encoder: Encoder, file: Path, side: int, precision: Precision, *, compress: bool
) -> None:
    import torch

    from llama_index_mm_zhipu.embedding.backends.encoders import UnitEncoder

    openvino = import_openvino()
    if encoder == "image":
        example, shape = torch.rand(2, 3, side, side), [-1, 3, side, side]
    else:
        example, shape = torch.randint(1000, 2000, (2, 7)), [-1, -1]
    # torch's check of the trace takes twice as long as the trace, and _min_cosines checks more lengths.
    traced = torch.jit.trace(UnitEncoder(model, encoder).eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
    converted = openvino.convert_model(traced, example_input=example, input=[openvino.PartialShape(shape)])
    if precision == "int8":
        quantize_products(converted)
    openvino.save_model(converted, file, compress_to_fp16=compress)


def _fits_fp16(model: CLIP) -> bool:
    """Return whether fp16 represents the weights without loss, as it does those of the official checkpoints."""
    return all(bool((weight.half().float() == weight).all()) for weight in model.state_dict().values())


def _min_cosines(model: CLIP, files: Mapping[Encoder, Path], side: int, precision: Precision) -> dict[Encoder, float]:
    """Compare vectors over batch sizes and text lengths: a graph traced at one of them may be wrong at others."""
    from llama_index_mm_zhipu.embedding.backends.encoders import reference_vectors

    random = np.random.default_rng(0)
    batches: dict[Encoder, list[Any]] = {
        "image": [random.standard_normal((size, 3, side, side), dtype=np.float32) for size in _BATCH_SIZES],
        "text": [_padded_texts(random, size, length) for size in _BATCH_SIZES for length in _TEXT_LENGTHS],
    }
    min_cosines: dict[Encoder, float] = {}
    for encoder, file in files.items():
        ours = compile_encoder(file, precision)
        cosines = [
            (ours.infer({0: batch})[0] * reference_vectors(model, encoder, batch)).sum(axis=1).min()
            for batch in batches[encoder]
        ]
        # Unlike Python's min, np.min is NaN if one of them is NaN.
        min_cosines[encoder] = float(np.min(cosines))
    return min_cosines


def _padded_texts(random: np.random.Generator, size: int, length: int) -> npt.NDArray[np.int64]:
    """Return random texts, all but the first of them shorter than ``length`` and padded."""
    texts = random.integers(672, 21128, (size, length))
    for row in range(1, size):
        texts[row, max(2, length - 3 * row) :] = PADDING
    return texts


def _refuse_or_report(cosines: Mapping[Encoder, float], precision: Precision, checkpoint: Checkpoint) -> None:
    listed = ", ".join(f"{encoder}s {cosine:.5f}" for encoder, cosine in cosines.items())
    required = MIN_COSINES.get(precision, 0.0)
    # "not >=" rather than "<", so that NaN is refused.
    if not np.min(list(cosines.values())) >= required:
        raise BackendError(
            f"{checkpoint.path.name} converted for OpenVINO in {precision} gives other vectors than torch in fp32 "
            f'(minimum cosines: {listed}; at least {required} is required): take backend="torch"'
            + (' or precision="fp32"' if precision == "bf16" else "")
        )
    logger.info("%s for OpenVINO in %s: minimum cosines to torch in fp32: %s", checkpoint.path.name, precision, listed)
