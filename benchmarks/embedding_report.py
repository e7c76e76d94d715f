"""Tables of the figures of ``embedding.py``, and their comparison with targets."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from embedding_contenders import ARTICLE, ARTICLE_CUDA, BF16, FP32, HUGGING_FACE, INT8, TORCH
from embedding_fresh import WAYS, Figures
from embedding_parts import CORE, IMAGE_PATH, IMPORTED, IMPORTS
from embedding_peak import FORMULA
from measuring import markdown_table

MISSING = "–"

_EXTENSIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_bf16", "amx_int8")
_PACKAGES = ("torch", "openvino", "transformers", "cn_clip", "pillow", "numpy")
_MIB = 1 << 20


@dataclass(frozen=True)
class Target:
    """A bound for the median of a ratio that is measured in each round."""

    part: str
    work: str
    against: str
    sign: str
    bound: float
    measured: Callable[[Figures], Sequence[float]]

    def check(self, figures: Figures) -> Figures:
        """Return the target with the measured values, or None if this machine cannot measure them."""
        try:
            values = self.measured(figures[self.part])
        except KeyError:
            values = []
        target = {
            "part": self.part,
            "work": self.work,
            "against": self.against,
            "target": f"{self.sign} {self.bound:g}",
        }
        if not values:
            return {**target, "values": [], "measured": None, "met": None}
        median = statistics.median(values)
        return {
            **target,
            "values": list(values),
            "measured": median,
            "met": median >= self.bound if self.sign == "≥" else median <= self.bound,
        }


def ratios(found: Figures, name: str, against: str) -> list[float]:
    """Return the speed of one contender relative to another, for each round."""
    seconds = found["seconds"]
    return [theirs / ours for ours, theirs in zip(seconds[name], seconds[against], strict=True)]


def shares_of_peak(found: Figures, work: str, precision: str) -> list[float]:
    """Return the rate relative to that of the fastest matrix product in the same precision, for each round."""
    rates = found["per_second"][precision]
    fastest = [max(of_round) for of_round in zip(*(rates[each] for each in rates if "product" in each), strict=True)]
    return [rate / peak for rate, peak in zip(rates[work], fastest, strict=True)]


def _growth(found: Figures, way: str) -> list[float]:
    few, many = (each["peak_bytes"] for each in found[way].values())
    return [many / few] if few else []


def _faster(part: str, work: str, name: str, bound: float, against: str = ARTICLE) -> Target:
    measured = partial(ratios, name=name, against=against)
    return Target(part, f"{work}, {name}", against, "≥", bound, measured)


_PAIRS = "640×480 JPEG + caption"
_SLIDES = "3840×2880 PNG slide + caption"
_PHOTOS = "4000×3000 JPEG + caption"
_QUERY = "a new query of at most 6 characters"

TARGETS = (
    _faster("pairs", _PAIRS, TORCH, 1.4),
    _faster("pairs", _PAIRS, FP32, 2.5),
    _faster("pairs", _PAIRS, BF16, 5),
    _faster("pairs", _PAIRS, INT8, 6),
    _faster("pairs", _PAIRS, FP32, 1.8, HUGGING_FACE),
    _faster("slides", _SLIDES, FP32, 2.2),
    _faster("slides", _SLIDES, INT8, 3.5),
    _faster("photos", _PHOTOS, INT8, 5),
    _faster("queries", _QUERY, TORCH, 2),
    _faster("queries", _QUERY, FP32, 7),
    _faster("queries", _QUERY, INT8, 12),
    *(
        Target(
            "peak",
            f"{IMAGE_PATH}, {precision}",
            f"{precision} product",
            "≥",
            0.75,
            partial(shares_of_peak, work=IMAGE_PATH, precision=precision),
        )
        for precision in ("fp32", "bf16", "int8")
    ),
    *(Target("memory", f"memory, {way}", "a tenth of it", "≤", 1.1, partial(_growth, way=way)) for way in WAYS),
    *(Target("import", IMPORTS[name], CORE, "≤", 1.1, partial(ratios, name=CORE, against=name)) for name in IMPORTED),
)


def targets_table(checked: Iterable[Figures]) -> str:
    """Return a row per target, with the measured values."""
    words = {True: "yes", False: "**no**", None: MISSING}
    rows = [
        [found["work"], found["against"], found["target"], _spread(found["values"]), words[found["met"]]]
        for found in checked
    ]
    return markdown_table(["work", "against", "target: ratio", "measured: median (min–max)", "met"], rows)


def pairs_table(found: Figures, base: str = ARTICLE) -> str:
    """Return a row per contender: time, ratios, memory."""
    header = ["contender", "ms each", f"× {base}", f"× {HUGGING_FACE}", "waits for images, %"]
    header += ["min cosine", "peak memory, MiB"]
    rows = []
    for name, seconds in found["seconds"].items():
        waited = [100 * lost / whole for lost, whole in zip(found["waited"][name], seconds, strict=True)]
        others = HUGGING_FACE in found["seconds"]
        rows.append(
            [
                _named(name, found),
                _spread([1000 * each / found["items"] for each in seconds], ".1f"),
                _spread(ratios(found, name, base)),
                _spread(ratios(found, name, HUGGING_FACE)) if others else MISSING,
                f"{statistics.median(waited):.0f}" if any(waited) else MISSING,
                f"{found['min_cosine'][name]:.5f}",
                _mib(found["peak_bytes"][name]) if "peak_bytes" in found else MISSING,
            ]
        )
    return markdown_table(header, rows)


def accelerator_table(found: Figures) -> str:
    """Return a row per contender, with images per second."""
    per_second = {
        name: _spread([found["items"] / each for each in seconds], ".0f") for name, seconds in found["seconds"].items()
    }
    rates = markdown_table(["contender", "pairs per second"], [[name, rate] for name, rate in per_second.items()])
    return f"{pairs_table(found, ARTICLE_CUDA)}\n\n{rates}"


def peak_table(found: Figures) -> str:
    """Return a row per matrix product and per path of images in each precision, with operations per second."""
    rows = [
        [
            precision,
            name,
            _spread([rate / 1e9 for rate in rates], ".0f"),
            _spread(shares_of_peak(found, name, precision)),
        ]
        for precision, of_one in found["per_second"].items()
        for name, rates in of_one.items()
    ]
    formula = f"An image takes {found['operations'] / 1e9:.3g} · 10⁹ operations: {FORMULA}"
    header = ["precision", "work", "10⁹ operations per second", "share of the fastest product"]
    return f"{formula}\n\n{markdown_table(header, rows)}"


def memory_table(found: Figures) -> str:
    """Return a row per function and number of images: peak memory before and after, and the size of the result."""
    header = ["function", "images", "peak before, MiB", "peak after, MiB", "of it returned, MiB", "ratio"]
    rows = []
    for way, of_counts in found.items():
        for number, (count, each) in enumerate(of_counts.items()):
            shown = [f"{int(count):,}", *(_mib(each[f"{what}_bytes"]) for what in ("before", "peak", "returned"))]
            rows.append([way, *shown, _spread(_growth(found, way) if number else [])])
    return markdown_table(header, rows)


def starts_table(found: Figures) -> str:
    """Return a row per contender: the time to the first query, with and without conversion."""
    header = ["contender", "start", "importing, s", "constructing, s", "first query, s", "together, s"]
    header += ["torch imported", "peak memory, MiB"]
    rows = []
    for kind, title in (("first", "first, converting"), ("later", "later")):
        for name, each in found[kind].items():
            times = [[start[step] for start in each] for step in ("importing", "constructing", "first_query")]
            together = [sum(of_one) for of_one in zip(*times, strict=True)]
            shown = [f"{statistics.median(of_step):.2f}" for of_step in (*times, together)]
            torch = "yes" if each[0]["torch_imported"] else "no"
            when = title if name.startswith("OpenVINO") else MISSING
            peak = max((start["peak_bytes"] for start in each if start["peak_bytes"]), default=None)
            rows.append([name, when, *shown, torch, _mib(peak)])
    return markdown_table(header, rows)


def imports_table(found: Figures) -> str:
    """Return a row per import."""
    rows = [
        [f"`{IMPORTS[name]}`", _spread([1000 * each for each in seconds], ".0f")]
        for name, seconds in found["seconds"].items()
    ]
    return markdown_table(["fresh interpreter", "ms"], rows)


def preprocess_table(found: Figures) -> str:
    """Return one row."""
    row = [str(found["photos"]), f"{found['mean']:.5f}", f"{found['min']:.5f}"]
    return markdown_table(["photographs", "mean cosine", "min cosine"], [row])


def machine(model: str) -> str:
    """Return a description of the machine and the installed packages."""
    info = Path("/proc/cpuinfo")
    lines = [line.split(":", 1) for line in info.read_text().splitlines() if ":" in line] if info.exists() else []
    known = {name.strip(): value.strip() for name, value in lines}
    flags = known.get("flags", "").split()
    extensions = [name for name in _EXTENSIONS if name in flags]
    lacking = [name for name in _EXTENSIONS if name not in flags]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else MISSING
    return (
        f"{known.get('model name', 'CPU unknown')}, {cores} cores; has {', '.join(extensions) or MISSING}; "
        f"lacks {', '.join(lacking)}. {versions}. {model}. Load before: {load}."
    )


def _named(name: str, found: Mapping[str, object]) -> str:
    return f"{name} by {found['batch']}" if name == HUGGING_FACE and "batch" in found else name


def _spread(values: Sequence[float], form: str = ".2f") -> str:
    if not values:
        return MISSING
    median = format(statistics.median(values), form)
    return median if len(values) == 1 else f"{median} ({min(values):{form}}–{max(values):{form}})"


def _mib(count: float | None) -> str:
    return MISSING if count is None else f"{count / _MIB:,.0f}"
