"""A checkpoint converted for OpenVINO: once per model and precision, checked against torch, kept beside the weights."""

from __future__ import annotations

import glob
import json
import logging
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from llama_index_mm_zhipu.embedding.backends import CPU_BATCH, BackendError, Precision, Vectors, in_one_line
from llama_index_mm_zhipu.embedding.backends.openvino_runtime import (
    EXTRA,
    compiled_tower,
    core,
    has_openvino,
    import_nncf,
    import_openvino,
    in_silence,
    interrupts_deferred,
)
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import Checkpoint, load_model
from llama_index_mm_zhipu.embedding.chinese_clip.vectors import PADDING
from llama_index_mm_zhipu.shared_folders import old_paths

if TYPE_CHECKING:
    import torch
    from cn_clip.clip.model import CLIP

logger = logging.getLogger(__name__)

Tower = Literal["image", "text"]

LEAST_COSINES: dict[Precision, float] = {"fp32": 0.9999, "bf16": 0.999}
"""Of converted vectors to torch's in fp32: what is below is refused. Of int8 the cosine is reported only."""

_FORMAT = "openvino-1"
_RECORD = "model.json"
_BATCH_SIZES = (1, 2, 5)
_TEXT_LENGTHS = (3, 9, 27, 52)


@dataclass(frozen=True)
class ConvertedModel:
    """A model as OpenVINO reads it.

    Attributes:
        folder: Where its files lie.
        logit_scale: The learned factor that turns cosines into logits.
        least_cosines: Of its vectors to torch's in fp32, per tower, when it was converted.
    """

    folder: Path
    logit_scale: float
    least_cosines: Mapping[Tower, float]

    @property
    def files(self) -> dict[Tower, Path]:
        """The file of each tower, with its weights beside it."""
        return _files_in(self.folder)


def converted_model(checkpoint: Checkpoint, precision: Precision, cache_dir: Path | None = None) -> ConvertedModel:
    """Find the converted model, or convert it, which takes some 15 s for ViT-B-16.

    Args:
        checkpoint: The weights, by whose hash it is found again.
        precision: ``"fp32"``, ``"bf16"`` (the same weights as fp32, checked in bf16) or ``"int8"``.
        cache_dir: Folder of converted models; None takes the one that holds the weights.

    Raises:
        CheckpointError: The weights are damaged, or of another architecture.
        BackendError: The folder cannot be written, or the vectors differ from torch's.
    """
    folder = (cache_dir or checkpoint.path.parent) / f"{_FORMAT}-{checkpoint.content_hash()}-{precision}"
    return _read_record(folder) or _convert(checkpoint, precision, folder)


def _files_in(folder: Path) -> dict[Tower, Path]:
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
            f"{folder / _RECORD} cannot be read ({error}); delete the folder {folder}, and it is converted anew"
        ) from None


def _convert(checkpoint: Checkpoint, precision: Precision, folder: Path) -> ConvertedModel:
    if precision == "int8":
        _require_nncf()
    title = f"Converting {checkpoint.path.name} for OpenVINO, {precision} (once)"
    with _written_whole(folder) as unfinished, tqdm(total=5, desc=title, leave=False) as bar, in_silence():
        model = load_model(checkpoint).float()
        half = _fits_half(model)
        bar.update()
        for tower, file in _files_in(unfinished).items():
            with _said_to_be_openvinos(checkpoint), interrupts_deferred():
                _write_tower(model, tower, file, checkpoint.input_resolution, precision, half=half)
            bar.update()
        with interrupts_deferred():
            cosines = _least_cosines(model, _files_in(unfinished), checkpoint.input_resolution, precision)
        bar.update()
        _refuse_or_report(cosines, precision, checkpoint)
        scale = float(model.logit_scale.exp())
        record = {"struct": checkpoint.struct, "logit_scale": scale, "least_cosines": cosines}
        (unfinished / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        bar.update()
    return ConvertedModel(folder, scale, cosines)


@contextmanager
def _said_to_be_openvinos(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn what OpenVINO raises, of several kinds, into one error that says what to do."""
    try:
        yield
    except BackendError:
        raise
    except Exception as error:
        detail = in_one_line(f"{type(error).__name__}: {error}")
        raise BackendError(
            f'OpenVINO cannot convert {checkpoint.path.name} ({detail}): take backend="torch"'
        ) from error


@contextmanager
def _written_whole(folder: Path) -> Iterator[Path]:
    """Give a folder to write to, which takes its name when it is complete: nobody sees a part of it."""
    if folder.exists():
        raise _in_the_way(folder)
    # What killed conversions left.
    for other in old_paths(folder.parent, f"{glob.escape(folder.name)}.????????"):
        shutil.rmtree(other, ignore_errors=True)
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
            # Another process may have been faster: its model is as good.
            if not (folder / _RECORD).is_file():
                raise _in_the_way(folder) from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _in_the_way(folder: Path) -> BackendError:
    return BackendError(f"{folder} is in the way of a converted model: delete it")


def _write_tower(model: CLIP, tower: Tower, file: Path, side: int, precision: Precision, *, half: bool) -> None:
    import torch

    openvino = import_openvino()
    if tower == "image":
        example, shape = torch.rand(2, 3, side, side), [-1, 3, side, side]
    else:
        example, shape = torch.randint(1000, 2000, (2, 7)), [-1, -1]
    # torch's own check of the trace takes twice as long as the trace, and ours looks at more lengths.
    traced = torch.jit.trace(_tower(model, tower), example, check_trace=False)  # type: ignore[no-untyped-call]
    converted = openvino.convert_model(traced, example_input=example, input=[openvino.PartialShape(shape)])
    if precision == "int8":
        converted = _with_8_bit_weights(converted)
    openvino.save_model(converted, file, compress_to_fp16=half)


def _tower(model: CLIP, tower: Tower) -> torch.nn.Module:
    import torch

    class Unit(torch.nn.Module):
        """One tower with the division by the length, which OpenVINO does in fp32."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            features = model.encode_image(batch) if tower == "image" else model.encode_text(batch)
            unit: torch.Tensor = features / features.norm(dim=-1, keepdim=True)
            return unit

    return Unit().eval()


def _require_nncf() -> None:
    try:
        import_nncf()
    except ImportError:
        raise BackendError(f'precision="int8" needs nncf for the conversion: {EXTRA}') from None


def _with_8_bit_weights(converted: Any) -> Any:
    nncf = import_nncf()
    return nncf.compress_weights(converted, mode=nncf.CompressWeightsMode.INT8_SYM)


def _fits_half(model: CLIP) -> bool:
    """Whether fp16 holds the weights without loss, as it does those of the official checkpoints."""
    return all(bool((weight.half().float() == weight).all()) for weight in model.state_dict().values())


def _least_cosines(model: CLIP, files: Mapping[Tower, Path], side: int, precision: Precision) -> dict[Tower, float]:
    """Compare vectors over batch sizes and text lengths: a graph traced at one of them may be wrong at others."""
    import torch

    noise = np.random.default_rng(0)
    batches: dict[Tower, list[Any]] = {
        "image": [noise.standard_normal((size, 3, side, side), dtype=np.float32) for size in _BATCH_SIZES],
        "text": [_padded_texts(noise, size, length) for size in _BATCH_SIZES for length in _TEXT_LENGTHS],
    }
    least: dict[Tower, float] = {}
    for tower, file in files.items():
        ours, theirs = compiled_tower(file, precision), _tower(model, tower)
        with torch.inference_mode():
            cosines = [
                (ours.infer({0: batch})[0] * theirs(torch.from_numpy(batch)).numpy()).sum(axis=1).min()
                for batch in batches[tower]
            ]
        # Unlike Python's min, this is NaN if one of them is.
        least[tower] = float(np.min(cosines))
    return least


def _padded_texts(noise: np.random.Generator, size: int, length: int) -> npt.NDArray[np.int64]:
    """Make texts of which all but the first are shorter, and padded."""
    texts = noise.integers(672, 21128, (size, length))
    for row in range(1, size):
        texts[row, max(2, length - 3 * row) :] = PADDING
    return texts


def _refuse_or_report(cosines: Mapping[Tower, float], precision: Precision, checkpoint: Checkpoint) -> None:
    said = ", ".join(f"{tower}s {cosine:.5f}" for tower, cosine in cosines.items())
    least = np.min(list(cosines.values()))
    asked = LEAST_COSINES.get(precision, 0.0)
    # Written so that not-a-number is refused.
    if not least >= asked:
        raise BackendError(
            f"{checkpoint.path.name} converted for OpenVINO in {precision} gives other vectors than torch in fp32 "
            f'(least cosines: {said}; at least {asked} is asked for): take backend="torch"'
            + (' or precision="fp32"' if precision == "bf16" else "")
        )
    logger.info("%s for OpenVINO in %s: least cosines to torch in fp32: %s", checkpoint.path.name, precision, said)


# OpenVINO prepares itself for every shape that it meets: 5 ms, and memory that it keeps. For batches, four lengths are
# made one; a query is not made longer.
_LENGTH_STEP = 4


class OpenVinoBackend:
    """A converted model on the CPU. torch is needed for the conversion only.

    Attributes:
        name: What people call it.
        device: ``"cpu"``.
        precision: ``"fp32"``, ``"bf16"`` or ``"int8"`` (8-bit weights, activations quantised as they come).
        logit_scale: The learned factor that turns cosines into logits.
    """

    name = "OpenVINO"

    def __init__(
        self, checkpoint: Checkpoint, device: str, precision: Precision, cache_dir: Path | None = None
    ) -> None:
        """Load a converted model, converting it first if that was not done yet.

        Raises:
            CheckpointError: The weights are damaged, or of another architecture.
            BackendError: OpenVINO is not installed or cannot do this; the converted model cannot be written, or its
                vectors differ from torch's.
        """
        _check(device, precision)
        self.device, self.precision = device, precision
        # In fp32 two images take twice as long in one pass as in two passes, and up to five longer than one by one.
        self._rest_at_once = 1 if precision == "fp32" else CPU_BATCH
        converted = converted_model(checkpoint, precision, cache_dir)
        self.logit_scale = converted.logit_scale
        self._towers = {tower: compiled_tower(file, precision) for tower, file in converted.files.items()}
        # One forward pass at a time: OpenVINO already spreads a pass over all cores.
        self._turn = threading.Lock()

    def image_vectors(self, pixels: npt.NDArray[np.float32]) -> Vectors:
        """Embed preprocessed images of shape ``(n, 3, side, side)``.

        Returns:
            Unit vectors of shape ``(n, embed_dim)``.
        """
        full = len(pixels) // CPU_BATCH * CPU_BATCH
        bounds = [*range(0, full, CPU_BATCH), *range(full, len(pixels), self._rest_at_once), len(pixels)]
        return np.concatenate([self._run("image", pixels[start:end]) for start, end in pairwise(bounds)])

    def text_vectors(self, tokens: npt.NDArray[np.int64]) -> Vectors:
        """Embed word pieces of shape ``(n, length)`` in one forward pass.

        Returns:
            Unit vectors of shape ``(n, embed_dim)``.
        """
        missing = -tokens.shape[1] % _LENGTH_STEP if len(tokens) > 1 else 0
        return self._run("text", np.pad(tokens, ((0, 0), (0, missing)), constant_values=PADDING))

    def _run(self, tower: Tower, batch: npt.NDArray[Any]) -> Vectors:
        with self._turn:
            # A copy: OpenVINO writes the next result into the same memory.
            vectors: Vectors = self._towers[tower].infer({0: batch}, share_inputs=True)[0].copy()
        return vectors


def _check(device: str, precision: Precision) -> None:
    if not has_openvino():
        raise BackendError(f'backend="openvino" needs OpenVINO: {EXTRA}')
    if device != "cpu":
        raise BackendError(f'backend="openvino" runs on the CPU, not on {device!r}: take backend="torch" there')
    if precision == "fp16":
        raise BackendError('precision="fp16" needs a GPU and backend="torch"; on a CPU take "fp32", "bf16" or "int8"')
    if precision == "bf16" and not _has_bf16():
        raise BackendError('this CPU has no bf16 instructions: take precision="fp32" or "int8"')


def _has_bf16() -> bool:
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
