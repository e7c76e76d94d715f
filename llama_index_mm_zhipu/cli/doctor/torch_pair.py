"""Check that torch and torchvision belong together, and that they can be imported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from typing import Any, NamedTuple

from llama_index_mm_zhipu.cli.doctor.check import Context, Finding
from llama_index_mm_zhipu.cli.doctor.wording import Wording

IMPORT_SECONDS = 120
"""Maximum time to import torch; on a slow disk, that of a CUDA build may take half a minute."""

_PACKAGE = "llama-index-mm-zhipu"
# Builds that PyTorch offers under an index URL of their own.
_BUILD = re.compile(r"cpu|xpu|cu\d+|rocm[\d.]+")

# A torchvision of another torch can often be imported, and only fails when one of its operators is called. The versions
# here name the build, which the metadata of PyPI's wheels does not.
_PROGRAM = """
import json, warnings
import torch, torchvision
torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
with warnings.catch_warnings(record=True) as raised:
    warnings.simplefilter("always")
    cuda = torch.cuda.is_available()
print(json.dumps({
    "torch": torch.__version__,
    "torchvision": torchvision.__version__,
    "device": "cuda" if cuda else "mps" if torch.backends.mps.is_available() else "cpu",
    "name": torch.cuda.get_device_name() if cuda else "",
    "problem": "" if cuda or not raised else str(raised[-1].message),
}))
"""


class Pair(NamedTuple):
    """The versions of torch and torchvision."""

    torch: str
    torchvision: str


class _NotImportableError(Exception):
    """Raised when torch and torchvision cannot be imported; the message is the last line of the output."""


def check_torch(context: Context) -> Finding:
    """Check the versions of torch and torchvision, import both in another process, and find the device."""
    words = context.words
    versions = {name: _version(name) for name in Pair._fields}
    if missing := [name for name, version in versions.items() if not version]:
        detail = words.torch_missing.format(names=words.comma.join(missing))
        return Finding("failed", detail, words.run.format(command="pip install torch torchvision"))
    pair = Pair(**versions)
    if (mismatch := mismatch_of(pair, words)) is not None:
        return mismatch
    try:
        imported = _import_both()
    except subprocess.TimeoutExpired:
        detail = words.torch_timeout.format(seconds=IMPORT_SECONDS, **pair._asdict())
        return Finding("failed", detail, words.torch_timeout_advice)
    except _NotImportableError as error:
        detail = words.torch_not_importable.format(reason=error, **pair._asdict())
        return Finding("failed", detail, words.run.format(command=_reinstall_command(pair)))
    pair = Pair(imported["torch"], imported["torchvision"])
    if are_other_builds(pair):
        return _other_build(pair, words)
    context.device = imported["device"]
    if imported["problem"]:
        detail = words.torch_no_gpu.format(reason=imported["problem"], **pair._asdict())
        return Finding("warning", detail, words.torch_no_gpu_advice)
    device = f"{imported['device'].upper()} {imported['name']}".strip()
    return Finding("ok", words.torch_versions.format(device=device, **pair._asdict()))


def mismatch_of(pair: Pair, words: Wording) -> Finding | None:
    """Return what is wrong with two versions, judged by the requirements in the packages' metadata; None if nothing."""
    from packaging.requirements import Requirement

    def required_by(package: str) -> str:
        """Return the versions of torch that a package requires, such as ``==2.6.0``; empty if any."""
        try:
            requirements = list(map(Requirement, metadata.requires(package) or ()))
        except metadata.PackageNotFoundError:
            return ""
        mine = (each for each in requirements if each.name == "torch" and (not each.marker or each.marker.evaluate()))
        return str(next((each.specifier for each in mine), ""))

    if (required := required_by(_PACKAGE)) and not is_within(pair.torch, required):
        detail = words.torch_too_old.format(torch=pair.torch, required=required)
        command = f"pip install --upgrade torch torchvision{_index_option(pair.torch)}"
        return Finding("failed", detail, words.run.format(command=command))
    if (required := required_by("torchvision")) and not is_within(pair.torch, required):
        detail = words.torch_other_version.format(required=required, **pair._asdict())
        # pip then takes the torchvision that requires this torch.
        command = f'pip install --upgrade "torch=={pair.torch}" torchvision{_index_option(pair.torch)}'
        return Finding("failed", detail, words.run.format(command=command))
    return _other_build(pair, words) if are_other_builds(pair) else None


def is_within(version: str, specifier: str) -> bool:
    """Return whether a version of torch meets a requirement, whatever its build."""
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(specifier).contains(version, prereleases=True)


def are_other_builds(pair: Pair) -> bool:
    """Return whether one is known to be a build for CPUs, and the other one not to be."""
    builds = [_build_of(version) for version in pair]
    return all(builds) and builds.count("cpu") == 1


def _other_build(pair: Pair, words: Wording) -> Finding:
    command = words.run.format(command=_reinstall_command(pair))
    return Finding("failed", words.torch_other_build.format(**pair._asdict()), command)


def _reinstall_command(pair: Pair) -> str:
    """Return the command that installs both again, torchvision in the build of torch."""
    build = _build_of(pair.torch)
    label = f"+{build}" if build else ""
    versions = " ".join(f'"{name}=={version.partition("+")[0]}{label}"' for name, version in pair._asdict().items())
    return f"pip install --force-reinstall --no-deps {versions}{_index_option(pair.torch)}"


def _index_option(torch: str) -> str:
    build = _build_of(torch)
    return f" --index-url https://download.pytorch.org/whl/{build}" if build else ""


def _build_of(version: str) -> str:
    """Return the build in a version such as ``2.6.0+cpu``; empty if it names none that PyTorch offers."""
    label = version.partition("+")[2]
    return label if _BUILD.fullmatch(label) else ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _import_both() -> dict[str, Any]:
    # Files of the working directory, such as a random.py, must not take the place of modules.
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=IMPORT_SECONDS,
        env=environment,
        check=False,
    )
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    lines = done.stderr.split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), f"exit status {done.returncode}")
    raise _NotImportableError(last)
