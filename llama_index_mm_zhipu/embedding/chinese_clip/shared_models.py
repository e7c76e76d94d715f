"""Choose the backend for a model, and load each model once per process."""

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

BackendType = Literal["torch", "openvino"]
_Key = tuple[str, ...]

_models: WeakValueDictionary[_Key, Backend] = WeakValueDictionary()
# Conversions that failed: another attempt would take as long and fail again.
_failed_conversions: set[_Key] = set()
_load_locks: dict[_Key, threading.Lock] = {}
_load_locks_lock = threading.Lock()


@dataclass(frozen=True)
class ModelSettings:
    """A model and how to run it.

    Attributes:
        checkpoint: The weights.
        backend: ``"auto"`` chooses OpenVINO on a CPU if it is installed, and otherwise torch.
        device: ``"auto"`` chooses CUDA, else MPS, else the CPU.
        precision: None chooses fp16 on CUDA and fp32 elsewhere.
        cache_dir: Folder for models converted for OpenVINO; None takes the folder of the weights.
    """

    checkpoint: Checkpoint
    backend: BackendName = "auto"
    device: str = "auto"
    precision: Precision | None = None
    cache_dir: Path | None = None


class SharedModel:
    """Handle to model weights that are loaded once per process.

    Copies are the same handle; pickles contain the settings without weights.

    Attributes:
        settings: The model and how to run it.
        loaded_state: State of the weight files when they were loaded; None while they are not loaded.
    """

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self._backend: Backend | None = None
        self.loaded_state: FileState | None = None

    def __copy__(self) -> SharedModel:
        """Return the handle itself: weights are never changed."""
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> SharedModel:
        """Return the handle itself: weights are never changed."""
        return self

    def __reduce__(self) -> tuple[type[SharedModel], tuple[ModelSettings]]:
        """Pickle the settings."""
        return SharedModel, (self.settings,)

    @property
    def backend(self) -> Backend:
        """The loaded model; loaded now if no handle has it.

        Raises:
            CheckpointError: The weights cannot be loaded.
            BackendError: This machine cannot run them with these settings.
        """
        backend = self._backend
        if backend is None:
            self.loaded_state = self.settings.checkpoint.file_state
            with reported_when_slow(f"Loading the model {self.settings.checkpoint.path} …"):
                backend = self._backend = _load_with_fallback(self.settings)
        return backend

    def release(self) -> None:
        """Release the weights, which leave the memory unless another handle has them. The next use reloads them."""
        self._backend = self.loaded_state = None

    def require_unchanged(self) -> None:
        """Check that the weight files are those that were loaded.

        Raises:
            CheckpointError: They were changed or removed.
        """
        if self.loaded_state not in (None, self.settings.checkpoint.file_state):
            raise CheckpointError(
                f"{self.settings.checkpoint.path} was changed after it was loaded: close() this model, and it will be "
                "loaded again"
            )


def _load_with_fallback(settings: ModelSettings) -> Backend:
    """Return the model; with ``backend="auto"`` in fp32, torch replaces an OpenVINO that fails."""
    backend_type, device, precision = _choose_backend(settings)
    if backend_type == "torch" or settings.backend != "auto" or precision != "fp32":
        return _load_once(settings, backend_type, device, precision)
    attempt = (*_key(settings, backend_type, device, precision), str(settings.cache_dir))
    if attempt not in _failed_conversions:
        try:
            return _load_once(settings, backend_type, device, precision)
        except BackendError as error:
            _failed_conversions.add(attempt)
            logger.warning("torch is used instead of OpenVINO, which is faster: %s", error)
    return _load_once(settings, "torch", device, precision)


def _load_once(settings: ModelSettings, backend_type: BackendType, device: str, precision: Precision) -> Backend:
    """Return the model that the process has loaded, or load it."""
    key = _key(settings, backend_type, device, precision)
    with _load_lock(key):
        backend = _models.get(key)
        if backend is None:
            backend = _models[key] = _load(settings, backend_type, device, precision)
    return backend


def _load(settings: ModelSettings, backend_type: BackendType, device: str, precision: Precision) -> Backend:
    if backend_type == "torch":
        from llama_index_mm_zhipu.embedding.backends.torch import TorchBackend

        return TorchBackend(settings.checkpoint, device, precision)
    from llama_index_mm_zhipu.embedding.backends.openvino import OpenVinoBackend

    return OpenVinoBackend(settings.checkpoint, device, precision, settings.cache_dir)


def _choose_backend(settings: ModelSettings) -> tuple[BackendType, str, Precision]:
    """Return backend, device and precision with ``"auto"`` and None resolved."""
    if settings.backend == "openvino":
        return "openvino", settings.device if settings.device != "auto" else "cpu", settings.precision or "fp32"
    device = _best_device() if settings.device == "auto" else settings.device
    precision = settings.precision or ("fp16" if device.startswith("cuda") else "fp32")
    on_openvino = settings.backend == "auto" and device == "cpu" and precision != "fp16" and has_openvino()
    return "openvino" if on_openvino else "torch", device, precision


def _best_device() -> str:
    # Importing torch takes two seconds, which a machine without an accelerator can save.
    if not _may_have_accelerator():
        return "cpu"
    from llama_index_mm_zhipu.embedding.backends.torch import best_device

    return best_device()


def _may_have_accelerator() -> bool:
    """Return whether there is an Apple chip or a driver of AMD or NVIDIA."""
    if sys.platform == "darwin" or Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _key(settings: ModelSettings, backend_type: str, device: str, precision: str) -> _Key:
    weights = json.dumps([settings.checkpoint.file_state, settings.checkpoint.config], sort_keys=True)
    return (weights, backend_type, device, precision)


def _load_lock(key: _Key) -> threading.Lock:
    """Return the lock of one model, so that threads load it once and do not wait for other models."""
    with _load_locks_lock:
        return _load_locks.setdefault(key, threading.Lock())
