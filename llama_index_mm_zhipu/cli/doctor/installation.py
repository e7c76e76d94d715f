"""Checks of what is installed: Python, this package, OpenVINO, the extras, LibreOffice and the font."""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.resources import files
from importlib.util import find_spec

from llama_index_mm_zhipu.cli.doctor.check import Context, Finding
from llama_index_mm_zhipu.mcp import MCP_INSTALLATION

MIN_PYTHON = (3, 10)

_PACKAGE = "llama_index_mm_zhipu"

EXTRAS: dict[str, tuple[str, ...]] = {
    "pages": ("pypdfium2",),
    "video": ("av",),
    "ocr": ("rapidocr", "openvino"),
    "plot": ("matplotlib",),
    "parquet": ("pyarrow",),
    "serve": ("starlette", "uvicorn", "python_multipart", "prometheus_client"),
    "mcp": ("mcp",),
}
"""Extras with the modules that they install, but for ``openvino``, which has a check of its own."""

_INSTALLED_APART = {"mcp": MCP_INSTALLATION}
"""Extras that pip refuses, with what installs their packages: mcp needs a newer pyjwt than zhipuai allows."""


def check_python(context: Context) -> Finding:
    """Check the version of Python; the detail names the platform and the interpreter."""
    detail = context.words.python.format(
        version=platform.python_version(), platform=platform.platform(), executable=sys.executable
    )
    if sys.version_info < MIN_PYTHON:
        return Finding("failed", detail, context.words.python_old_advice)
    return Finding("ok", detail)


def check_package(context: Context) -> Finding:
    """Report the versions of this package and of LlamaIndex."""
    version, core = map(metadata.version, ("llama-index-mm-zhipu", "llama-index-core"))
    return Finding("ok", context.words.package.format(version=version, core=core))


def check_openvino(context: Context) -> Finding:
    """Check whether OpenVINO is installed and can be imported; models on a GPU do not need it."""
    from llama_index_mm_zhipu.embedding.backends.openvino_runtime import EXTRA, has_openvino, import_openvino

    words = context.words
    if not has_openvino():
        if context.device not in ("", "cpu"):
            return Finding("ok", words.openvino_not_needed.format(device=context.device.upper()))
        return Finding("warning", words.openvino_missing, words.run.format(command=EXTRA))
    try:
        version, _, _ = import_openvino().__version__.partition("-")
    except Exception as error:
        detail = words.openvino_not_importable.format(reason=error)
        return Finding("failed", detail, words.run.format(command="pip install --force-reinstall openvino"))
    return Finding("ok", words.openvino.format(version=version))


def check_extras(context: Context) -> Finding:
    """List the extras that are installed and those that are not."""
    words = context.words
    missing = [name for name, modules in EXTRAS.items() if any(find_spec(module) is None for module in modules)]
    installed = [name for name in EXTRAS if name not in missing]
    parts = [words.extras_installed.format(names=words.comma.join(installed) or words.none)]
    if missing:
        parts.append(words.extras_missing.format(names=words.comma.join(missing), command=_installation_of(missing)))
    return Finding("ok", words.semicolon.join(parts))


def _installation_of(extras: Sequence[str]) -> str:
    """Return the command that installs extras with plain pip, which refuses some beside this package's requirements."""
    plain = [name for name in extras if name not in _INSTALLED_APART]
    commands = [f'pip install "llama-index-mm-zhipu[{",".join(plain)}]"'] if plain else []
    return "; ".join([*commands, *(_INSTALLED_APART[name] for name in extras if name in _INSTALLED_APART)])


def check_libreoffice(context: Context) -> Finding:
    """Report where LibreOffice is, which makes images of slides."""
    from llama_index_mm_zhipu.readers.slides import find_libreoffice

    program = find_libreoffice()
    if program is None:
        return Finding("ok", context.words.libreoffice_missing)
    return Finding("ok", context.words.libreoffice.format(program=shlex.quote(program)))


def check_font(context: Context) -> Finding:
    """Check that the package has its Chinese font for plots."""
    folder = files(_PACKAGE) / "display" / "fonts"
    fonts = [file.name for file in folder.iterdir() if file.name.endswith(".otf")] if folder.is_dir() else []
    if not fonts:
        command = "pip install --force-reinstall --no-deps llama-index-mm-zhipu"
        return Finding("failed", context.words.font_missing, context.words.run.format(command=command))
    return Finding("ok", context.words.font.format(name=fonts[0]))
