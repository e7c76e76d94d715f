"""OpenVINO and nncf: imported without the telemetry that they would send, and how a tower is run."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, TextIO

from llama_index_mm_zhipu.embedding.backends import BackendError, Precision, in_one_line
from llama_index_mm_zhipu.reporting import errors_only

EXTRA = 'pip install "llama-index-mm-zhipu[openvino]"'

_TELEMETRY = "openvino_telemetry"
_importing = threading.RLock()
_silencing = threading.RLock()

# The group size is of 8-bit activations; groups of 32 are slower. Unless told, OpenVINO takes bf16 where it can.
_PROPERTIES: dict[Precision, dict[str, Any]] = {
    "fp32": {"INFERENCE_PRECISION_HINT": "f32"},
    "bf16": {"INFERENCE_PRECISION_HINT": "bf16"},
    "int8": {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 128},
}


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def import_openvino() -> ModuleType:
    """Import OpenVINO, which would tell its makers so over the network."""
    with _no_telemetry(), interrupts_deferred():
        return import_module("openvino")


def import_nncf() -> ModuleType:
    """Import nncf, which would do the same.

    Not to be imported ``in_silence``: its logger keeps the stdout that it finds.
    """
    with _no_telemetry(), interrupts_deferred():
        return import_module("nncf")


@cache
def core() -> Any:
    """Return OpenVINO's entry to its devices, one for the process.

    Where the CPU has AMX, each of these gives the thread that made it a stack for signals, and puts back the one before
    when it goes. With more than one, that may be a stack that is gone, and Ctrl-C crashes the process.
    """
    return import_openvino().Core()


def compiled_tower(file: Path, precision: Precision) -> Any:
    """Load one tower of a converted model for the CPU.

    Returns:
        An ``openvino.InferRequest``; not for two threads at once.

    Raises:
        BackendError: The file is damaged.
    """
    properties = {"PERFORMANCE_HINT": "LATENCY", **_PROPERTIES[precision]}
    try:
        return core().compile_model(str(file), "CPU", properties).create_infer_request()
    except RuntimeError as error:
        detail = in_one_line(error)
        raise BackendError(
            f"OpenVINO cannot load {file} ({detail}); delete the folder {file.parent}, and it is converted anew"
        ) from None


@contextlib.contextmanager
def in_silence() -> Iterator[None]:
    """Keep what conversion and compression print and warn of from the user: it is about their own insides.

    One thread at a time: what is changed meanwhile is the process's. What other threads print is printed.
    """
    with (
        _silencing,
        warnings.catch_warnings(),
        contextlib.redirect_stdout(_OtherThreads(sys.stdout)),
        # The second is what nncf asks of torch when it begins, which reports that there is no CUDA.
        errors_only("nncf", "torch.utils.cpp_extension"),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Let Ctrl-C come when the block ends: where OpenVINO calls Python from C++, it ends the process or is swallowed.

    A conversion that swallowed it fails with another error, after which ``backend="auto"`` would go on with torch.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    interrupts: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: interrupts.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if interrupts:
            handler(*interrupts[0])


class _OtherThreads:
    """A stdout that what this thread prints does not reach."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout
        self._silent = threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self._silent else self._stdout.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


@contextlib.contextmanager
def _no_telemetry() -> Iterator[None]:
    """Make the package that sends it look as if it were not installed, which both take without complaint."""
    with _importing:
        known = sys.modules.get(_TELEMETRY)
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            if known is None:
                del sys.modules[_TELEMETRY]
            else:
                sys.modules[_TELEMETRY] = known
