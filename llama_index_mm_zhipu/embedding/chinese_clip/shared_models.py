"""One model per process: which backend runs it, and who holds it."""

from __future__ import annotations

import ctypes
import json
import logging
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from weakref import WeakValueDictionary

from llama_index_mm_zhipu.embedding.backends import Backend, BackendError, BackendName, CheckpointError, Precision
from llama_index_mm_zhipu.embedding.backends.openvino_runtime import has_openvino
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import Checkpoint, FileState
from llama_index_mm_zhipu.reporting import reported_when_slow

logger = logging.getLogger(__name__)

Kind = Literal["torch", "openvino"]
_Key = tuple[str, ...]

_models: WeakValueDictionary[_Key, Backend] = WeakValueDictionary()
# Conversions that failed: trying again takes as long, for the same end.
_refused: set[_Key] = set()
_locks: dict[_Key, threading.Lock] = {}
_locks_turn = threading.Lock()


@dataclass(frozen=True)
class ModelSettings:
    """What is to be run, and how.

    Attributes:
        checkpoint: The weights.
        backend: ``"auto"`` takes OpenVINO on a CPU where it is installed, and torch elsewhere.
        device: ``"auto"`` takes CUDA, else MPS, else the CPU.
        precision: None takes fp16 on CUDA and fp32 elsewhere.
        cache_dir: Folder of models converted for OpenVINO; None takes the one that holds the weights.
    """

    checkpoint: Checkpoint
    backend: BackendName = "auto"
    device: str = "auto"
    precision: Precision | None = None
    cache_dir: Path | None = None


class SharedModel:
    """A hold on the process's one copy of a model.

    Copies of a ``SharedModel`` are the same hold; pickles carry its settings, no weights.

    Attributes:
        settings: What is to be run, and how.
        loaded_state: State of the file of weights when it was loaded; None while it is not.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self._backend: Backend | None = None
        self.loaded_state: FileState | None = None

    def __copy__(self) -> SharedModel:
        """Share the weights, which nothing changes."""
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> SharedModel:
        """Share the weights, which nothing changes."""
        return self

    def __reduce__(self) -> tuple[type[SharedModel], tuple[ModelSettings]]:
        """Pickle what to load."""
        return SharedModel, (self.settings,)

    @property
    def backend(self) -> Backend:
        """The loaded model; loads it if nobody holds it yet.

        Raises:
            CheckpointError: The weights cannot be loaded.
            BackendError: This machine cannot run them as asked.
        """
        backend = self._backend
        if backend is None:
            self.loaded_state = self.settings.checkpoint.file_state
            with reported_when_slow(f"Loading the model {self.settings.checkpoint.path} …"):
                backend = self._backend = _shared(self.settings)
        return backend

    def release(self) -> None:
        """Give up the hold: when nobody else has one, the weights leave the memory. The next use loads them anew."""
        self._backend = self.loaded_state = None

    def require_unchanged(self) -> None:
        """Make sure that the file of weights is the one that was loaded.

        Raises:
            CheckpointError: It was changed or removed.
        """
        if self.loaded_state not in (None, self.settings.checkpoint.file_state):
            raise CheckpointError(
                f"{self.settings.checkpoint.path} was changed after it was loaded: close() this model, and it is "
                "loaded anew"
            )


def _shared(settings: ModelSettings) -> Backend:
    kind, device, precision = _choice(settings)
    if kind == "torch" or settings.backend != "auto" or precision != "fp32":
        return _one_of(settings, kind, device, precision)
    attempt = (*_key(settings, kind, device, precision), str(settings.cache_dir))
    if attempt not in _refused:
        try:
            return _one_of(settings, kind, device, precision)
        except BackendError as error:
            _refused.add(attempt)
            logger.warning("torch is used instead of OpenVINO, which is faster: %s", error)
    return _one_of(settings, "torch", device, precision)


def _one_of(settings: ModelSettings, kind: Kind, device: str, precision: Precision) -> Backend:
    """Return the loaded model of this kind, or load it."""
    key = _key(settings, kind, device, precision)
    with _lock_of(key):
        backend = _models.get(key)
        if backend is None:
            backend = _models[key] = _load(settings, kind, device, precision)
    return backend


def _choice(settings: ModelSettings) -> tuple[Kind, str, Precision]:
    if settings.backend == "openvino":
        return "openvino", settings.device if settings.device != "auto" else "cpu", settings.precision or "fp32"
    device = _best_device() if settings.device == "auto" else settings.device
    precision = settings.precision or ("fp16" if device.startswith("cuda") else "fp32")
    on_openvino = settings.backend == "auto" and device == "cpu" and precision != "fp16" and has_openvino()
    return "openvino" if on_openvino else "torch", device, precision


def _best_device() -> str:
    if not _may_have_accelerator():
        return "cpu"
    from llama_index_mm_zhipu.embedding.backends.torch import best_device

    return best_device()


def _may_have_accelerator() -> bool:
    """Whether torch is worth asking, which takes two seconds to import: Apple's chips, AMD's or NVIDIA's driver."""
    if sys.platform == "darwin" or Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _key(settings: ModelSettings, kind: str, device: str, precision: str) -> _Key:
    weights = json.dumps([settings.checkpoint.file_state, settings.checkpoint.config], sort_keys=True)
    return (weights, kind, device, precision)


def _lock_of(key: _Key) -> threading.Lock:
    """Two threads that want the same model load it once; others are not held up."""
    with _locks_turn:
        return _locks.setdefault(key, threading.Lock())


def _load(settings: ModelSettings, kind: Kind, device: str, precision: Precision) -> Backend:
    if kind == "torch":
        from llama_index_mm_zhipu.embedding.backends.torch import TorchBackend

        return TorchBackend(settings.checkpoint, device, precision)
    from llama_index_mm_zhipu.embedding.backends.openvino import OpenVinoBackend

    return OpenVinoBackend(settings.checkpoint, device, precision, settings.cache_dir)
