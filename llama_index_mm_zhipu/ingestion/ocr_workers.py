"""Recognition of one image, in this process or in a worker process.

Worker processes are started by ``subprocess`` and not by ``multiprocessing``: scripts need no
``if __name__ == "__main__"``, pipelines whose own processes may have no children can use them, and a worker ends by
itself when the process that started it is gone.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, BinaryIO

from PIL import Image

from llama_index_mm_zhipu.images import load_image
from llama_index_mm_zhipu.ingestion.ocr_engines import OcrEngine, OcrLine, fingerprint_of, recognize
from llama_index_mm_zhipu.ingestion.page_orientation import PageReading, recognize_upright

_EXIT_SECONDS = 5.0
"""How long to wait for the exit status of a process that closed its pipes."""


class OcrEngineError(TypeError):
    """An engine cannot be used in worker processes. The message says why.

    Examples:
        >>> ImageOcr(engine=lambda image: [], num_workers=2)(read_folder("slides"))
        Traceback (most recent call last):
            ...
        llama_index_mm_zhipu.ingestion.ocr_workers.OcrEngineError: the OCR engine cannot be used in worker
        processes (__main__.<lambda>: Can't pickle <function <lambda> at ...>: attribute lookup <lambda> on
        __main__ failed); define it in a module that can be imported, or take num_workers=1
    """


class OcrWorkerError(RuntimeError):
    """A worker process ended while it read an image, for example because memory ran out.

    Examples:
        >>> from llama_index_mm_zhipu.ingestion import OcrWorkerError
        >>> ocr = ImageOcr(engine=lambda image: [], on_error="raise")
        >>> try:
        ...     pages = ocr(read_folder("slides"))
        ... except OcrWorkerError:
        ...     print("take fewer workers")
    """


@dataclass(frozen=True)
class Recognition:
    """What an engine read in an image.

    Attributes:
        width: Width in pixels of the image that the engine got.
        height: Height in pixels.
        lines: Lines of the engine, noise included.
        turn: Degrees clockwise by which the image must be turned to be upright: 0, 90, 180 or 270.
    """

    width: int
    height: int
    lines: list[OcrLine]
    turn: int = 0

    def to_json(self) -> str:
        """Return the recognition as JSON, for the cache."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Recognition:
        """Return the recognition that ``to_json`` wrote.

        Raises:
            ValueError: The text is something else.
        """
        try:
            values = json.loads(text)
            lines = [OcrLine(str(line["text"]), tuple(line["box"]), line["score"]) for line in values["lines"]]
            return cls(int(values["width"]), int(values["height"]), lines, int(values["turn"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no recognition: {error}") from None


def recognize_bytes(content: bytes, engine: OcrEngine, longest_side: int) -> Recognition:
    """Decode an image, shrink it and read it, also if it is upside down or sideways.

    Args:
        content: The encoded image.
        engine: The engine.
        longest_side: Longer side in pixels of the image that the engine gets; smaller images are not enlarged.

    Raises:
        ImageError: The image cannot be decoded.
    """
    image = load_image(content)
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    if getattr(engine, "in_reading_order", False):
        read = PageReading(recognize(image, engine))
    else:
        read = recognize_upright(image, partial(recognize, engine=engine))
    return Recognition(*image.size, read.lines, read.turn)


class WorkerProcess:
    """A process with its own engine, which starts at the first image. One thread may use it at a time.

    Args:
        engine: The engine; it is pickled.
        longest_side: As in ``recognize_bytes``.

    Raises:
        OcrEngineError: The engine cannot be pickled.
    """

    def __init__(self, engine: OcrEngine, longest_side: int) -> None:
        try:
            self._engine = pickle.dumps((engine, longest_side))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise _no_worker_engine(engine, error) from None
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False

    def recognize(self, content: bytes) -> Recognition:
        """Return what the worker's engine reads in an encoded image; errors of the worker are raised here.

        Raises:
            OcrEngineError: The engine cannot be loaded in a worker process.
            OcrWorkerError: The process ended; the next image starts another one.
        """
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, content)
            succeeded, result = pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):
            self._close(_EXIT_SECONDS)
            raise OcrWorkerError(
                f"an OCR process ended with status {process.returncode} while it read an image; if memory ran out, "
                "take fewer num_workers"
            ) from None
        if not succeeded:
            raise result
        assert isinstance(result, Recognition)
        return result

    def kill(self) -> None:
        """End the process at once, also while another thread waits for a result; it is not started again."""
        self._killed = True
        if (process := self._process) is not None:
            process.kill()

    def close(self) -> None:
        """End the process and release its pipes. No thread may wait for a result."""
        self._killed = True
        self._close(0)

    def _start(self) -> subprocess.Popen[bytes]:
        if self._killed:
            raise OcrWorkerError("the run was stopped")
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **paths},
        )
        assert process.stdin is not None
        if self._killed:
            process.kill()
        # ``recognize`` finds out if the process ended.
        with suppress(OSError):
            _send(process.stdin, self._engine)
        return process

    def _close(self, patience: float) -> None:
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def serve() -> None:
    """Read images from stdin and write what is in them to stdout, until stdin is closed: the program of a worker."""
    # Ctrl-C reaches all processes of a terminal. The first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever an engine prints must not get between the results.
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests: BinaryIO = sys.stdin.buffer
    try:
        engine, longest_side = pickle.loads(pickle.load(requests))
        call: Callable[[bytes], Any] = lambda content: recognize_bytes(content, engine, longest_side)  # noqa: E731
    except Exception as error:
        failure = OcrEngineError(_advice(str(error)))

        def call(content: bytes) -> Any:
            raise failure

    while True:
        try:
            content = pickle.load(requests)
        except EOFError:
            return
        _send(output, _result(call, content))


def _result(call: Callable[[bytes], Recognition], content: bytes) -> tuple[bool, Recognition | Exception]:
    try:
        return True, call(content)
    except Exception as error:
        return False, _sendable(error)


def _sendable(error: Exception) -> Exception:
    """Return an error, or a plain one with its name and message if it cannot be pickled and unpickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _send(stream: Any, value: object) -> None:
    pickle.dump(value, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()


def _no_worker_engine(engine: OcrEngine, error: Exception) -> OcrEngineError:
    return OcrEngineError(_advice(f"{fingerprint_of(engine)}: {error}"))


def _advice(reason: str) -> str:
    return (
        f"the OCR engine cannot be used in worker processes ({reason}); define it in a module that can be imported, or "
        "take num_workers=1"
    )
