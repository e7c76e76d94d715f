"""Engines of ``ImageOcr``: what an engine is, the call of one, and ``RapidOcrEngine``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, TypeAlias

from PIL import Image

from llama_index_mm_zhipu.concurrency import available_threads, fork_safe_lock
from llama_index_mm_zhipu.embedding.backends.openvino_runtime import core, import_openvino
from llama_index_mm_zhipu.text import replace_lone_surrogates

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom of an upright rectangle, as fractions of the width and height of the image."""

_BOX_DIGITS = 4
_MAX_SIDE = 100_000


@dataclass(frozen=True)
class OcrLine:
    """A line of text in an image; for engines that find the layout, a block of Markdown.

    Attributes:
        text: What is written there.
        box: Left, top, right and bottom as fractions of the image, 0 to 1.
        score: How sure the engine is, 0 to 1.

    Examples:
        >>> from llama_index_mm_zhipu.ingestion import OcrLine
        >>> OcrLine("胎压 2.3", (0.1, 0.1, 0.4, 0.2), score=0.98)
        OcrLine(text='胎压 2.3', box=(0.1, 0.1, 0.4, 0.2), score=0.98)
    """

    text: str
    box: Box
    score: float = 1.0


OcrEngine: TypeAlias = Callable[[Image.Image], Iterable[OcrLine]]
"""An engine: returns the lines of an upright RGB image, none if nothing is written in it.

Engines may have attributes:

- ``fingerprint``: name, version and settings as a string. Cached results are used if it is the same; without it, module
  and name of the function or class count.
- ``thread_safe``: True if several threads may call the engine at a time, as for services. ``num_workers`` are then
  threads; otherwise they are processes, and the engine must be picklable.
- ``in_reading_order``: True if the lines are whole paragraphs in reading order, which are kept as they are.
- ``for_workers(count)``: returns the engine for each of that many processes, which share the processor's cores.

Examples:
    >>> from llama_index_mm_zhipu.ingestion import OcrEngine, OcrLine
    >>> class TyrePressure:
    ...     fingerprint = "tyre pressure 1"
    ...     def __call__(self, image):
    ...         return [OcrLine("胎压", (0.1, 0.1, 0.4, 0.2))]
    >>> engine: OcrEngine = TyrePressure()
    >>> [page] = ImageOcr(engine=engine)(read_folder("slides")[:1])
    >>> page.metadata["page_text_lines"]
    [{'text': '胎压', 'box': [0.1, 0.1, 0.4, 0.2], 'score': 1.0}]
"""

_calling = fork_safe_lock()


def recognize(image: Image.Image, engine: OcrEngine) -> list[OcrLine]:
    """Return the lines that an engine reads in an upright RGB image.

    Engines that are not thread-safe are called by one thread at a time.

    Raises:
        TypeError: The engine returned something else than lines.
    """
    if getattr(engine, "thread_safe", False):
        found = list(engine(image))
    else:
        with _calling:
            found = list(engine(image))
    return [_checked(line, engine) for line in found]


def fingerprint_of(engine: OcrEngine) -> str:
    """Return name, version and settings of an engine, by which its results are cached."""
    given = getattr(engine, "fingerprint", None)
    if given is not None:
        return str(given)
    named = engine if hasattr(engine, "__qualname__") else type(engine)
    return f"{named.__module__}.{named.__qualname__}"


class RapidOcrEngine:
    """RapidOCR on OpenVINO: Chinese and English text by the PP-OCRv6 models in its wheel; nothing is downloaded.

    The models are loaded by the first call. ``ImageOcr`` makes sure that one thread calls an engine at a time.

    Args:
        threads: Number of threads; None takes all cores, divided by the number of processes.
        params: Further settings of RapidOCR by their dotted names, such as ``{"Det.thresh": 0.2}``. Leave
            ``Global.use_cls`` off: it turns single lines, and the order of a page upside down would be wrong.

    Raises:
        ImportError: The extra ``ocr`` is not installed.

    Examples:
        >>> from PIL import Image
        >>> from llama_index_mm_zhipu.ingestion import RapidOcrEngine
        >>> lines = RapidOcrEngine(threads=1)(Image.open("slides/1.jpg"))
        >>> [line.text for line in lines][:2]
        ['什么是机器学习', '机器学习让计算机从数据中总结规律，而不是']
    """

    def __init__(self, *, threads: int | None = None, params: Mapping[str, Any] | None = None) -> None:
        missing = [name for name in ("rapidocr", "openvino") if find_spec(name) is None]
        if missing:
            raise ImportError(f'RapidOcrEngine needs {" and ".join(missing)}: pip install "llama-index-mm-zhipu[ocr]"')
        self.threads = threads
        self.params = dict(params or {})
        self._model: Any = None

    @property
    def fingerprint(self) -> str:
        """Name, version and settings; the number of threads does not matter."""
        settings = " ".join(f"{name}={value}" for name, value in sorted(self.params.items()))
        return f"rapidocr {version('rapidocr')} openvino {settings}".strip()

    @property
    def is_default(self) -> bool:
        """Whether no setting was given."""
        return self.threads is None and not self.params

    def for_workers(self, count: int) -> RapidOcrEngine:
        """Return the engine for each of ``count`` processes.

        Examples:
            >>> from llama_index_mm_zhipu.ingestion import RapidOcrEngine
            >>> RapidOcrEngine(threads=1).for_workers(4).threads
            1
        """
        return RapidOcrEngine(threads=self.threads or max(1, available_threads() // count), params=self.params)

    def __call__(self, image: Image.Image) -> list[OcrLine]:
        """Return the lines of an RGB image, from top to bottom."""
        import numpy as np

        if self._model is None:
            self._model = self._load()
        # RapidOCR takes arrays as BGR.
        pixels = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])
        found = self._model(pixels)
        if found.boxes is None or found.txts is None:
            return []
        width, height = image.size
        return [
            OcrLine(text, _upright_box(corners, width, height), float(score))
            for corners, text, score in zip(found.boxes.tolist(), found.txts, found.scores, strict=True)
        ]

    def _load(self) -> Any:
        import_openvino()
        from rapidocr import EngineType, RapidOCR

        # One setting for each of the three models: detection, direction and recognition.
        engines = {f"{model}.engine_type": EngineType.OPENVINO for model in ("Det", "Cls", "Rec")}
        # ``ImageOcr`` shrinks images itself, and better. Lines that are upside down keep their low scores: they show
        # that the page is.
        defaults = {
            "Global.log_level": "critical",
            "Global.max_side_len": _MAX_SIDE,
            "Global.use_cls": False,
            "Global.text_score": 0.0,
        }
        model: Any = RapidOCR(params={**defaults, **engines, **self.params})
        loaders = [model._load_det_model, model._load_rec_model, *([model._load_cls_model] if model.use_cls else [])]
        for load in loaders:
            self._compile_again(load().session)
        return model

    def _compile_again(self, session: Any) -> None:
        """Compile a model with properties that RapidOCR cannot pass on.

        - No cache of kernels by the size of their input: nearly each line of text has a width of its own, and memory
          grew by 20 MB a page.
        - No pinning: OpenVINO pins the threads of each process to the first cores, so that two processes of one thread
          shared one core.
        - One ``Core`` in a process, see ``openvino_runtime.core``.
        """
        properties = {
            "INFERENCE_NUM_THREADS": self.threads or available_threads(),
            "CPU_RUNTIME_CACHE_CAPACITY": 0,
            "ENABLE_CPU_PINNING": False,
        }
        session.session = core().compile_model(session.model, "CPU", properties).create_infer_request()

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings: another process loads the models itself."""
        return {**self.__dict__, "_model": None}

    def __repr__(self) -> str:
        """Show the settings."""
        return f"RapidOcrEngine(threads={self.threads!r}, params={self.params!r})"


def _upright_box(corners: Sequence[Sequence[float]], width: int, height: int) -> Box:
    """Return the upright rectangle around four corners in pixels."""
    xs, ys = zip(*corners, strict=True)
    return min(xs) / width, min(ys) / height, max(xs) / width, max(ys) / height


def _checked(line: OcrLine, engine: OcrEngine) -> OcrLine:
    """Return a line without lone surrogates, whose box is within the image."""
    if not isinstance(line, OcrLine):
        raise TypeError(
            f"the OCR engine {fingerprint_of(engine)} returned {line!r:.80}; it must return OcrLine objects"
        )
    left, top, right, bottom = (round(min(1.0, max(0.0, float(side))), _BOX_DIGITS) for side in line.box)
    text = replace_lone_surrogates(line.text).strip()
    return OcrLine(text, (left, top, max(left, right), max(top, bottom)), round(float(line.score), _BOX_DIGITS))
