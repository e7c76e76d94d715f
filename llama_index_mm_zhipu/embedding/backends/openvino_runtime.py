"""Import OpenVINO without its telemetry, and load converted models for the CPU."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from llama_index_mm_zhipu.concurrency import thread_limit
from llama_index_mm_zhipu.embedding.backends import BackendError, Precision, short_detail

EXTRA = 'pip install "llama-index-mm-zhipu[openvino]"'

_TELEMETRY = "openvino_telemetry"
_importing = threading.RLock()

# Without a hint, OpenVINO uses bf16 on CPUs that have it, which suits what int8 leaves unquantised.
_PROPERTIES: dict[Precision, dict[str, Any]] = {
    "fp32": {"INFERENCE_PRECISION_HINT": "f32"},
    "bf16": {"INFERENCE_PRECISION_HINT": "bf16"},
    "int8": {},
}


def has_openvino() -> bool:
    """Return whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def import_openvino() -> ModuleType:
    """Import OpenVINO, which otherwise reports its use over the network."""
    with _no_telemetry(), interrupts_deferred():
        return import_module("openvino")


@cache
def core() -> Any:
    """Return the ``openvino.Core`` of the process.

    There must be only one. On CPUs with AMX, each core sets a signal stack for the thread that creates it and restores
    the previous one when it is destroyed. With several cores the restored stack may not exist any more, and Ctrl-C
    crashes the process.
    """
    return import_openvino().Core()


def compile_encoder(file: Path, precision: Precision) -> Any:
    """Load one encoder of a converted model for the CPU.

    Returns:
        An ``openvino.InferRequest``, which only one thread may use at a time.

    Raises:
        BackendError: The file is damaged.
    """
    properties = {"PERFORMANCE_HINT": "LATENCY", **_PROPERTIES[precision], **_limited_threads()}
    try:
        return core().compile_model(str(file), "CPU", properties).create_infer_request()
    except RuntimeError as error:
        detail = short_detail(error)
        raise BackendError(
            f"OpenVINO cannot load {file} ({detail}); delete the folder {file.parent}, and it will be converted again"
        ) from None


def _limited_threads() -> dict[str, Any]:
    """Return the properties for the threads in ``OMP_NUM_THREADS``, which OpenVINO does not follow by itself."""
    limit = thread_limit()
    # Several processes with few threads each would all be bound to the first cores.
    return {} if limit is None else {"INFERENCE_NUM_THREADS": limit, "ENABLE_CPU_PINNING": False}


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Defer Ctrl-C to the end of the block.

    When OpenVINO calls Python from C++, a ``KeyboardInterrupt`` ends the process or is swallowed. A conversion that
    swallows it fails with another error, after which ``backend="auto"`` would continue with torch.
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


@contextlib.contextmanager
def _no_telemetry() -> Iterator[None]:
    """Hide the telemetry package from imports; OpenVINO works without it."""
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
