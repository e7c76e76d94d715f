"""The doctor finds what is wrong with an installation, a machine, a network, weights and an index, and says what helps.

Servers, files and processes are real; what an installation lacks is simulated by files on ``sys.path``.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import sqlite3
import string
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args

import huggingface_hub.constants
import numpy as np
import pytest
from llama_index.core.schema import ImageNode, TextNode
from safetensors.numpy import save
from serving import serving

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, build_index
from llama_index_mm_zhipu.cli.doctor import (
    Check,
    checks,
    installation,
    machine,
    network,
    run_checks,
    service,
    torch_pair,
    weights,
)
from llama_index_mm_zhipu.cli.doctor import store as store_checks
from llama_index_mm_zhipu.cli.doctor.check import GIB, Context, Finding
from llama_index_mm_zhipu.cli.doctor.torch_pair import Pair
from llama_index_mm_zhipu.cli.doctor.wording import WORDING, wording_of
from llama_index_mm_zhipu.embedding import OFFICIAL_MODELS
from llama_index_mm_zhipu.embedding.chinese_clip import official_models
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint
from llama_index_mm_zhipu.testing import MockGLMServer
from llama_index_mm_zhipu.types import Language
from llama_index_mm_zhipu.vector_store.schema import MIGRATIONS

OFFICIAL = OFFICIAL_MODELS["ViT-B-16"]
NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory, and an environment without keys, addresses and proxies."""
    folder = tmp_path / "home"
    folder.mkdir()
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(folder))
    for variable in ("ZHIPUAI_API_KEY", "ZHIPUAI_BASE_URL", "ZAI_API_KEY", "ZAI_BASE_URL", "HF_ENDPOINT"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return folder


def context(
    model: str = "ViT-B-16",
    *,
    store: Path | None = None,
    online: bool = True,
    is_default_model: bool = False,
    language: Language = "en",
) -> Context:
    return Context(store, model, is_default_model, wording_of(language), online)


def found(finding: Finding | None) -> Finding:
    assert finding is not None
    return finding


# The run as a whole


def test_importing_the_doctor_loads_no_heavy_library() -> None:
    libraries = ["torch", "llama_index.core", "PIL", "httpx", "numpy", "pydantic"]
    program = (
        "import sys; from llama_index_mm_zhipu.cli.doctor import run_checks; "
        f"print([name for name in {libraries} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("language", get_args(Language))
def test_every_check_is_reported_in_order_with_advice_unless_it_is_ok(
    language: Language, other_torch: Callable[..., None], tmp_path: Path
) -> None:
    other_torch("2.5.1", "0.20.1", "torch (==2.5.1)")
    results = list(run_checks(store=tmp_path / "store", model=None, language=language, online=False))

    assert [check.name for check in results] == list(checks._CHECKS)
    for check in results:
        assert check.title == WORDING[language].titles[check.name]
        assert check.detail
        assert "\n" not in check.detail + check.advice
        assert bool(check.advice) == (check.status != "ok"), check
        assert json.loads(json.dumps(check.as_dict())) == dataclasses.asdict(check)
    by_name = {check.name: check.status for check in results}
    assert by_name["torch"] == "failed"
    assert by_name["weights"] == by_name["key"] == by_name["store"] == "warning"


@pytest.mark.integration
def test_this_installation_and_an_index_built_with_it_are_in_order(
    tiny_model: Path, tiny_embedding: ChineseClipEmbedding, photos: list[Path], tmp_path: Path
) -> None:
    build_index(photos[:3], tiny_embedding, persist_dir=tmp_path / "store").close()
    results = {
        check.name: check
        for check in run_checks(store=tmp_path / "store", model=str(tiny_model), language="en", online=False)
    }
    assert {results[name].status for name in ("package", "torch", "weights", "store", "font")} == {"ok"}
    assert "computes on" in results["torch"].detail
    assert "the model matches" in results["store"].detail
    assert "download" not in results


def test_an_unknown_language_is_an_error_before_the_first_check() -> None:
    with pytest.raises(ValueError, match="language 'fr' is not known; use one of 'zh', 'en'"):
        run_checks(store=None, model=None, language="fr")  # type: ignore[arg-type]


def test_a_check_that_raises_is_reported_as_failed_without_credentials() -> None:
    def crash(context: Context) -> Finding:
        raise RuntimeError("no answer from http://user:secret@host/path")

    finding = found(checks.finding_of(crash, context()))
    assert finding.status == "failed"
    assert finding.detail == "the check itself failed: RuntimeError: no answer from http://…@host/path"
    assert "/issues" in finding.advice


def test_both_languages_have_the_same_texts_with_the_same_placeholders() -> None:
    def placeholders(text: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(text)} - {None}

    chinese, english = (dataclasses.asdict(WORDING[language]) for language in ("zh", "en"))
    for name, texts in chinese.items():
        others = english[name]
        if not isinstance(texts, Mapping):
            texts, others = {"": texts}, {"": others}
        assert set(texts) == set(others), name
        for key, text in texts.items():
            assert placeholders(text) == placeholders(others[key]), (name, key)
    assert set(chinese["titles"]) == set(checks._CHECKS)
    assert set(chinese["reasons"]) == set(get_args(network.Reason))


# Installation


@pytest.fixture
def other_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that makes other versions of torch and torchvision look installed."""

    def install(
        torch: str, torchvision: str, requirement: str = "torch", modules: Iterable[tuple[str, str]] = ()
    ) -> None:
        folder = tmp_path / "site-packages"
        for name, version in {"torch": torch, "torchvision": torchvision}.items():
            distribution = folder / f"{name}-{version}.dist-info"
            distribution.mkdir(parents=True)
            required = f"Requires-Dist: {requirement}\n" if name == "torchvision" else ""
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}"
            (distribution / "METADATA").write_text(metadata)
        for name, program in modules:
            (folder / f"{name}.py").write_text(program)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("PYTHONPATH", str(folder))

    return install


@pytest.mark.parametrize(
    ("torch", "torchvision", "requirement"),
    [
        ("2.6.0", "0.21.0", "torch (==2.6.0)"),
        ("2.6.0+cpu", "0.21.0+cpu", "torch==2.6.0"),
        ("2.6.0+cu124", "0.21.0", "torch==2.6.0"),
        ("2.15.0", "0.29.2", "torch (>=2.14.0)"),
        ("2.6.0", "0.21.0", "torch"),
        ("2.6.0", "0.21.0", 'torch==1.0; extra == "old"'),
    ],
)
def test_versions_that_belong_together_pass(
    other_torch: Callable[..., None], torch: str, torchvision: str, requirement: str
) -> None:
    other_torch(torch, torchvision, requirement)
    assert torch_pair.mismatch_of(Pair(torch, torchvision), wording_of("en")) is None


@pytest.mark.parametrize(
    ("torch", "torchvision", "requirement", "detail", "command"),
    [
        (
            "2.7.0",
            "0.21.0",
            "torch==2.6.0",
            "torchvision 0.21.0 needs torch==2.6.0, and torch 2.7.0 is installed",
            'pip install --upgrade "torch==2.7.0" torchvision',
        ),
        (
            "2.6.0+cpu",
            "0.21.0+cu124",
            "torch==2.6.0",
            "torch 2.6.0+cpu and torchvision 0.21.0+cu124 are different builds: one for CPUs, one for GPUs",
            'pip install --force-reinstall --no-deps "torch==2.6.0+cpu" "torchvision==0.21.0+cpu" '
            "--index-url https://download.pytorch.org/whl/cpu",
        ),
        (
            "2.5.1+cu121",
            "0.20.1",
            "torch==2.5.1",
            "torch 2.5.1+cu121 does not fit: this package needs torch>=2.6",
            "pip install --upgrade torch torchvision --index-url https://download.pytorch.org/whl/cu121",
        ),
    ],
)
def test_versions_that_do_not_belong_together_fail_with_a_command(
    other_torch: Callable[..., None], torch: str, torchvision: str, requirement: str, detail: str, command: str
) -> None:
    other_torch(torch, torchvision, requirement)
    finding = torch_pair.check_torch(context())
    assert finding == Finding("failed", detail, f"run: {command}")


def test_a_missing_torchvision_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    finding = torch_pair.check_torch(context())
    assert finding == Finding("failed", "torch, torchvision not installed", "run: pip install torch torchvision")


TORCH = """
import types, warnings
__version__ = "{version}"
def available():
    {before}
    return False
def zeros(*shape): pass
cuda = types.SimpleNamespace(is_available=available)
backends = types.SimpleNamespace(mps=types.SimpleNamespace(is_available=lambda: {mps}))
"""
TORCHVISION = """
import types
__version__ = "{version}"
ops = types.SimpleNamespace(nms=lambda *arguments: None)
"""


def modules(
    version: str = "2.6.0", vision: str = "0.21.0", *, before: str = "pass", mps: bool = False
) -> list[tuple[str, str]]:
    """Modules with what the check uses of torch and torchvision."""
    return [
        ("torch", TORCH.format(version=version, before=before, mps=mps)),
        ("torchvision", TORCHVISION.format(version=vision)),
    ]


def test_the_device_is_reported_and_spares_openvino(
    other_torch: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    other_torch("2.6.0", "0.21.0", modules=modules(mps=True))
    monkeypatch.setitem(sys.modules, "openvino", None)
    given = context()
    assert torch_pair.check_torch(given) == Finding("ok", "torch 2.6.0, torchvision 0.21.0, computes on MPS")
    assert installation.check_openvino(given).status == "ok"


def test_a_missing_openvino_is_a_warning_on_a_cpu(
    other_torch: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    other_torch("2.6.0", "0.21.0", modules=modules())
    monkeypatch.setitem(sys.modules, "openvino", None)
    given = context()
    assert torch_pair.check_torch(given).status == "ok"
    finding = installation.check_openvino(given)
    assert finding.status == "warning"
    assert finding.advice == 'run: pip install "llama-index-mm-zhipu[openvino]"'


def test_a_gpu_that_torch_cannot_use_is_a_warning(other_torch: Callable[..., None]) -> None:
    before = 'warnings.warn("the NVIDIA driver is too old")'
    other_torch("2.6.0", "0.21.0", modules=modules(before=before))
    finding = torch_pair.check_torch(context())
    assert finding.status == "warning"
    assert "computes on the CPU only: the NVIDIA driver is too old" in finding.detail


def test_builds_that_only_the_imported_modules_tell_are_compared(other_torch: Callable[..., None]) -> None:
    other_torch("2.6.0", "0.21.0", modules=modules("2.6.0+cpu", "0.21.0+cu124"))
    finding = torch_pair.check_torch(context())
    assert finding.status == "failed"
    assert '"torchvision==0.21.0+cpu"' in finding.advice


def test_an_import_that_fails_is_reported_with_its_last_line(other_torch: Callable[..., None]) -> None:
    failing = ("torchvision", 'raise RuntimeError("operator torchvision::nms does not exist")\n')
    other_torch("2.6.0", "0.21.0", modules=[*modules(), failing])
    finding = torch_pair.check_torch(context())
    assert finding.status == "failed"
    assert finding.detail.endswith("cannot be imported: RuntimeError: operator torchvision::nms does not exist")
    assert finding.advice == 'run: pip install --force-reinstall --no-deps "torch==2.6.0" "torchvision==0.21.0"'


def test_an_import_that_does_not_end_is_stopped(
    other_torch: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_pair, "IMPORT_SECONDS", 0.3)
    other_torch("2.6.0", "0.21.0", modules=[("torch", "import time\ntime.sleep(600)\n")])
    finding = torch_pair.check_torch(context())
    assert finding.status == "failed"
    assert "were not imported within 0.3 s" in finding.detail


@pytest.mark.usefixtures("needs_openvino")
def test_an_installed_openvino_is_imported() -> None:
    assert installation.check_openvino(context()).status == "ok"


def test_missing_extras_are_listed_with_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("av", "openvino", "mcp"):
        monkeypatch.setitem(sys.modules, module, None)
    finding = installation.check_extras(context())
    assert finding.status == "ok"
    assert finding.detail.endswith(
        'not installed: video, ocr, mcp (if you need them: pip install "llama-index-mm-zhipu[video,ocr]"; '
        'pip install "mcp>=2,<3" cryptography)'
    )


def test_the_command_for_missing_extras_leaves_out_what_pip_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("av", "mcp"):
        monkeypatch.setitem(sys.modules, module, None if module == "mcp" else sys)
    assert installation.check_extras(context()).detail.endswith(
        'not installed: mcp (if you need them: pip install "mcp>=2,<3" cryptography)'
    )


def test_libreoffice_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "not installed" in installation.check_libreoffice(context()).detail
    program = tmp_path / ("soffice.bat" if sys.platform == "win32" else "soffice")
    program.touch(mode=0o755)
    assert installation.check_libreoffice(context()) == Finding("ok", str(program))


# Machine


def machine_files(root: Path, **contents: str) -> Path:
    """Write files of ``/proc`` and ``/sys``, and return the root that stands for ``/``."""
    memory = "MemTotal:       16777216 kB\nMemFree:  1 kB\nMemAvailable:    8388608 kB\n"
    for name, content in {"proc/meminfo": memory, **contents}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


def test_memory_is_that_of_the_machine_without_limits(tmp_path: Path) -> None:
    assert machine.memory(machine_files(tmp_path)) == (16 * GIB, 8 * GIB)


@pytest.mark.parametrize("group", ["/", "/user.slice/session", "/../other"])
def test_memory_is_limited_by_the_control_groups_around_a_process(tmp_path: Path, group: str) -> None:
    outer = {
        "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/memory.current": f"{3 * GIB}\n",
        "sys/fs/cgroup/memory.stat": f"anon {GIB}\ninactive_file {GIB}\n",
    }
    inner = {
        "sys/fs/cgroup/user.slice/memory.max": "max\n",
        "sys/fs/cgroup/user.slice/memory.current": f"{GIB}\n",
        "sys/fs/cgroup/user.slice/memory.stat": "inactive_file 0\n",
    }
    files = {"proc/self/cgroup": f"0::{group}\n", **outer, **inner}
    assert machine.memory(machine_files(tmp_path, **files)) == (4 * GIB, 2 * GIB)


def test_memory_is_limited_by_control_groups_of_version_1(tmp_path: Path) -> None:
    folder = "sys/fs/cgroup/memory/docker/1"
    files = {
        "proc/self/cgroup": "9:name=systemd:/docker/1\n4:cpu,memory:/docker/1\n",
        f"{folder}/memory.limit_in_bytes": f"{2 * GIB}\n",
        f"{folder}/memory.usage_in_bytes": f"{2 * GIB}\n",
        f"{folder}/memory.stat": f"total_inactive_file {GIB}\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{9 * GIB}\n",
        "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0\n",
    }
    assert machine.memory(machine_files(tmp_path, **files)) == (2 * GIB, GIB)


def test_memory_that_the_system_does_not_tell_is_no_failure(tmp_path: Path) -> None:
    assert machine.memory(tmp_path).available is None
    words = wording_of("en")
    assert machine.memory_finding(machine.Memory(None, None), words) == Finding("ok", "unknown on this system")
    assert machine.memory_finding(machine.Memory(GIB, None), words).status == "ok"


def test_little_available_memory_is_a_warning() -> None:
    words = wording_of("en")
    statuses = [machine.memory_finding(machine.Memory(16 * GIB, size), words).status for size in (3 * GIB, 3 * GIB - 1)]
    assert statuses == ["ok", "warning"]


def test_a_limit_of_threads_is_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cores may be used" in machine.check_cores(context()).detail
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert machine.check_cores(context()).detail.startswith("1 threads may be used (OMP_NUM_THREADS)")


@pytest.mark.parametrize(
    ("free", "needs_weights", "status"),
    [(2 * GIB, True, "ok"), (2 * GIB - 1, True, "warning"), (GIB, False, "ok"), (10**8 - 1, False, "failed")],
)
def test_little_free_space_is_a_warning_or_a_failure(free: int, needs_weights: bool, status: str) -> None:
    finding = machine.disk_finding("weights", Path("/"), free, wording_of("en"), needs_weights=needs_weights)
    assert finding.status == status


def test_the_space_of_a_folder_that_does_not_exist_is_that_of_its_parent(tmp_path: Path, home: Path) -> None:
    finding = machine.check_disk(context(store=tmp_path / "not" / "there"))
    assert f"the index in {tmp_path};" in finding.detail
    assert f"weights in {home};" in finding.detail


# Network


def test_proxies_are_listed_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    assert network.check_proxies(context()) == Finding("ok", "none set")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy:3128")
    monkeypatch.setenv("HTTP_PROXY", "user:secret@proxy:3128")
    detail = network.check_proxies(context()).detail
    assert detail == "http: …@proxy:3128; https: http://proxy:3128"


def test_a_socks_proxy_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@proxy:1080")
    monkeypatch.setitem(sys.modules, "socksio", None)
    assert network.check_proxies(context()) == Finding(
        "failed", "all: …@proxy:1080", 'SOCKS proxies need another package, run: pip install "httpx[socks]"'
    )
    (answer,) = network.ask(["http://user:secret@example.invalid/"], method="GET")
    assert answer.describe(wording_of("en")) == (
        "http://example.invalid cannot be reached: the proxy cannot be used (through the proxy …@proxy:1080)"
    )


def test_a_host_that_is_silent_does_not_delay_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (answer,) = network.ask([f"http://127.0.0.1:{silent.getsockname()[1]}/x"], method="GET")
    assert answer.describe(wording_of("en")).endswith("cannot be reached: no answer within 0.2 s")


def test_the_reason_why_a_host_cannot_be_reached_is_named() -> None:
    answers = network.ask([NOBODY, "http://name.invalid/", "ftp://user:s3cr3t@host/"], method="GET")
    assert [answer.reason for answer in answers] == ["refused", "name", "url"]
    assert answers[1].describe(wording_of("zh")) == "http://name.invalid 无法连接：域名解析失败"
    assert "s3cr3t" not in answers[2].describe(wording_of("en"))


def test_an_error_of_another_kind_is_quoted(source: str) -> None:
    (answer,) = network.ask([source.replace("http:", "https:") + "/{brace}"], method="GET")
    assert "SSL" in answer.describe(wording_of("en"))


def test_the_proxy_through_which_a_host_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:9")
    (answer,) = network.ask(["http://example.invalid/"], method="GET")
    description = answer.describe(wording_of("en"))
    assert description.endswith("connection refused (through the proxy http://127.0.0.1:9)")


# Weights


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model of which only the files are looked at."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text(json.dumps({"embed_dim": 2, "image_resolution": 32}))
    (folder / "model.safetensors").write_bytes(save({"weight": np.zeros(1000, dtype=np.float32)}))
    return folder


@pytest.fixture
def official_file(home: Path) -> Path:
    """The official weight file of the default model, with other content."""
    folder = home / ".cache" / "clip"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / OFFICIAL.filename, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02weights" * 1000)
    return folder / OFFICIAL.filename


def test_weights_that_are_not_here_are_downloaded_later(home: Path) -> None:
    given = context()
    finding = weights.check_weights(given)
    assert finding.status == "warning"
    assert str(home / ".cache" / "clip" / OFFICIAL.filename) in finding.detail
    assert given.missing_weights is OFFICIAL
    assert given.architecture == OFFICIAL.architecture


def test_a_download_that_was_begun_is_mentioned(official_file: Path) -> None:
    official_file.rename(official_file.with_name(f"{official_file.name}.part"))
    assert "MiB are downloaded already" in weights.check_weights(context()).detail


@pytest.mark.parametrize("name", ["ViT-B-16", "ViT-B/16", "OFA-Sys/chinese-clip-vit-base-patch16"])
def test_official_weights_are_found_by_all_spellings_and_hashed(official_file: Path, name: str) -> None:
    given = context(name)
    finding = weights.check_weights(given)
    assert finding.status == "ok", finding
    assert given.fingerprint.startswith(f"{OFFICIAL.architecture} sha256:")
    assert given.fingerprint in finding.detail
    assert given.missing_weights is None


def test_damage_inside_an_official_file_is_found(official_file: Path) -> None:
    content = bytearray(official_file.read_bytes())
    content[5000] ^= 1
    official_file.write_bytes(content)
    given = context()
    finding = weights.check_weights(given)
    assert finding.status == "failed"
    assert "the download is damaged" in finding.detail
    assert given.fingerprint == ""


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "is an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a git-lfs pointer"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (b"PK\x03\x04 cut short", "is damaged or cut short"),
    ],
)
def test_files_that_are_no_weights_are_described(official_file: Path, content: bytes, detail: str) -> None:
    official_file.write_bytes(content)
    finding = weights.check_weights(context())
    assert finding.status == "failed"
    assert detail in finding.detail


def test_weights_at_a_path_are_checked(small_model: Path) -> None:
    given = context(str(small_model))
    finding = weights.check_weights(given)
    assert finding.status == "ok"
    assert given.fingerprint == find_checkpoint(str(small_model)).fingerprint()
    assert given.missing_weights is None


def test_safetensors_that_were_cut_short_are_found(small_model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_model, tmp_path / "model"))
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1])
    finding = weights.check_weights(context(str(folder)))
    assert finding.status == "failed"
    assert "is damaged or cut short" in finding.detail


def test_a_path_without_a_configuration_is_described(official_file: Path) -> None:
    other = official_file.rename(official_file.with_name("other.pt"))
    finding = weights.check_weights(context(str(other)))
    assert finding.status == "failed"
    assert "cannot tell the architecture" in finding.detail


def test_a_name_that_is_neither_a_path_nor_official_is_described() -> None:
    finding = weights.check_weights(context("somebody/model"))
    assert finding.status == "failed"
    assert "ViT-B-16, ViT-L-14" in finding.advice


class SourceHandler(BaseHTTPRequestHandler):
    """Has the official file at Hugging Face's path, below ``/moved`` by a redirect, and nothing else."""

    path_of_file = f"/OFA-Sys/{OFFICIAL.repository}/resolve/main/{OFFICIAL.filename}"

    def do_HEAD(self) -> None:
        if self.path == f"/moved{self.path_of_file}":
            self.send_response(302)
            self.send_header("Location", self.path_of_file)
        else:
            self.send_response(200 if self.path == self.path_of_file else 404)
            self.send_header("Content-Length", str(700 << 20))
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def source() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), SourceHandler)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


def downloads(hugging_face: str, modelscope: str, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Finding:
    """Return what is found about sources at these URLs."""
    monkeypatch.setenv("HF_ENDPOINT", hugging_face)
    monkeypatch.setattr(official_models, "MODELSCOPE", modelscope)
    asked = context(**given)
    asked.missing_weights = OFFICIAL
    return found(weights.check_download(asked))


@pytest.mark.parametrize("path", ["", "/moved"])
def test_a_source_that_has_the_file_tells_its_size(source: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = downloads(source + path, NOBODY, monkeypatch)
    assert finding.status == "ok"
    assert finding.detail.startswith(f"{source} can be reached; {NOBODY} cannot be reached: connection refused")
    assert finding.detail.endswith("700.0 MiB to download")


def test_a_first_source_that_fails_is_a_warning_with_both_remedies(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ModelScope's path is Hugging Face's for this server.
    monkeypatch.setattr(
        SourceHandler, "path_of_file", f"/models/AI-ModelScope/{OFFICIAL.repository}/resolve/master/{OFFICIAL.filename}"
    )
    finding = downloads(NOBODY, source, monkeypatch)
    assert finding.status == "warning"
    assert "HF_ENDPOINT=https://hf-mirror.com" in finding.advice
    assert 'download_source="modelscope"' in finding.advice


def test_sources_without_the_file_are_a_failure_that_says_where_to_put_it(
    source: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = downloads(f"{source}/wrong", NOBODY, monkeypatch)
    assert finding.status == "failed"
    assert f"{source} answers with HTTP 404" in finding.detail
    assert str(home / ".cache" / "clip" / OFFICIAL.filename) in finding.advice


@pytest.mark.parametrize("online", [True, False])
def test_the_password_of_a_mirror_is_not_shown(source: str, online: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = source.replace("//", "//user:s3cr3t@")
    finding = downloads(mirror, NOBODY, monkeypatch, online=online)
    assert finding.status == "ok"
    assert finding.detail.startswith(source)
    assert "s3cr3t" not in str(finding)


def test_sources_are_not_asked_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    assert downloads(NOBODY, NOBODY, monkeypatch, online=False).status == "ok"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    finding = downloads(NOBODY, NOBODY, monkeypatch, online=False)
    assert finding.status == "failed"
    assert "HF_HUB_OFFLINE" in finding.advice


# Key and address


@pytest.mark.parametrize(
    ("variable", "key", "status"),
    [
        ("ZHIPUAI_API_KEY", "0123456789abcdef.s3cr3tpart", "ok"),
        ("ZAI_API_KEY", "0123456789abcdef.s3cr3tpart", "ok"),
        ("ZHIPUAI_API_KEY", "s3cr3tpart", "warning"),
        ("ZHIPUAI_API_KEY", "0123456789abcdef. s3cr3tpart", "failed"),
    ],
)
@pytest.mark.parametrize("language", get_args(Language))
def test_keys_are_checked_and_never_shown(
    variable: str, key: str, status: str, language: Language, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, key)
    finding = service.check_key(context(language=language))
    assert finding.status == status
    assert variable in finding.detail
    assert "s3cr3t" not in str(finding)
    assert "0123" not in str(finding)


def test_a_server_of_ones_own_takes_any_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHIPUAI_API_KEY", "EMPTY")
    monkeypatch.setenv("ZHIPUAI_BASE_URL", "http://127.0.0.1:8000/v1")
    assert service.check_key(context()).status == "ok"


def test_a_missing_key_is_a_warning_that_says_where_to_get_one() -> None:
    finding = service.check_key(context())
    assert finding.status == "warning"
    assert "https://open.bigmodel.cn" in finding.advice
    assert "ZHIPUAI_API_KEY" in finding.advice


def test_the_api_is_reached_without_key_and_password(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(dict(self.headers))
            self.send_error(401)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        address = f"127.0.0.1:{server.server_port}/v4"
        monkeypatch.setenv("ZHIPUAI_BASE_URL", f"http://user:s3cr3t@{address}")
        monkeypatch.setenv("ZHIPUAI_API_KEY", "id.s3cr3t")
        finding = service.check_endpoint(context())
    assert finding == Finding("ok", f"http://{address} can be reached")
    assert len(seen) == 1
    assert "Authorization" not in seen[0]


def test_the_mock_server_counts_as_reached(server: MockGLMServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHIPUAI_BASE_URL", server.url)
    assert service.check_endpoint(context()).status == "ok"


@pytest.mark.parametrize(("key", "status"), [("", "warning"), ("id.secret", "failed")])
def test_an_api_that_cannot_be_reached_is_a_failure_if_there_is_a_key(
    key: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHIPUAI_BASE_URL", NOBODY)
    monkeypatch.setenv("ZHIPUAI_API_KEY", key)
    finding = service.check_endpoint(context())
    assert finding.status == status
    assert "HTTPS_PROXY" in finding.advice


@pytest.mark.parametrize("variable", ["ZHIPUAI_API_KEY", "ZAI_API_KEY"])
def test_the_address_is_that_of_the_key_even_if_the_key_is_invalid(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "s3 cr3t")
    detail = service.check_endpoint(context(online=False)).detail
    assert ("api.z.ai" if variable == "ZAI_API_KEY" else "open.bigmodel.cn") in detail


def test_an_address_that_is_no_url_fails_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHIPUAI_BASE_URL", "htp://user:s3cr3t@host")
    monkeypatch.setenv("ZHIPUAI_API_KEY", "id.secret")
    finding = service.check_endpoint(context())
    assert finding.status == "failed"
    assert "s3cr3t" not in str(finding)
    assert service.check_key(context()).status == "ok"


# Index


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, small_model: Path) -> Path:
    """The files of an index with three images and a text, to be copied."""
    folder = tmp_path_factory.mktemp("built")
    fingerprint = find_checkpoint(str(small_model)).fingerprint()
    images = [ImageNode(image_url=f"http://host/{number}.jpg", embedding=[1.0, float(number)]) for number in range(3)]
    for namespace, nodes in (("image", images), ("default", [TextNode(text="图片说明", embedding=[1.0, 0.0])])):
        with FaissMultiModalVectorStore(folder, namespace=namespace, model=fingerprint) as store:
            store.add(nodes)
    return folder


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    """An index that may be changed."""
    return Path(shutil.copytree(built, tmp_path / "store"))


def state_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def execute(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(statement)


def test_an_index_in_order_is_counted_and_not_written_to(store: Path, small_model: Path) -> None:
    before = state_of(store)
    given = context(str(small_model), store=store)
    weights.check_weights(given)
    finding = store_checks.check_store(given)
    assert finding == Finding(
        "ok", "images: 3, texts: 1; image.sqlite3 is intact; default.sqlite3 is intact; the model matches; writable"
    )
    assert state_of(store) == before


def test_an_index_that_another_connection_writes_to_is_read_as_of_its_last_commit(store: Path) -> None:
    with closing(sqlite3.connect(store / "image.sqlite3")) as writer:
        writer.execute("pragma journal_mode = wal")
        writer.execute("delete from nodes where id = 1")
        writer.commit()
        writer.execute("delete from nodes where id = 2")
        names, database = {path.name for path in store.iterdir()}, (store / "image.sqlite3").read_bytes()
        log = (store / "image.sqlite3-wal").read_bytes()
        finding = found(store_checks.check_store(context(store=store)))
        assert finding.status == "ok"
        assert finding.detail.startswith("images: 2, texts: 1")
        assert "in use by another process" in finding.detail
        assert {path.name for path in store.iterdir()} == names
        assert (store / "image.sqlite3").read_bytes() == database
        assert (store / "image.sqlite3-wal").read_bytes() == log
        writer.rollback()


def test_the_log_of_a_crashed_process_is_read_and_stays(store: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(store / "image.sqlite3")) as writer:
        writer.execute("pragma journal_mode = wal")
        writer.execute("delete from nodes where id = 1")
        writer.commit()
        crashed = Path(shutil.copytree(store, tmp_path / "crashed"))
    log = (crashed / "image.sqlite3-wal").read_bytes()
    assert found(store_checks.check_store(context(store=crashed))).detail.startswith("images: 2")
    assert (crashed / "image.sqlite3-wal").read_bytes() == log

    (crashed / "image.sqlite3-shm").unlink()
    finding = found(store_checks.check_store(context(store=crashed)))
    assert finding.status == "warning"
    assert "a write-ahead log (-wal) lies beside image.sqlite3" in finding.detail
    assert not (crashed / "image.sqlite3-shm").exists()


def test_a_folder_without_an_index_is_a_warning(tmp_path: Path) -> None:
    finding = found(store_checks.check_store(context(store=tmp_path / "none")))
    assert finding.status == "warning"
    assert str(tmp_path / "none") in finding.detail
    assert store_checks.check_store(context()) is None


def test_names_that_the_system_refuses_are_described(tmp_path: Path) -> None:
    given = context(store=tmp_path / ("x" * 300))
    finding = found(store_checks.check_store(given))
    assert finding.status != "ok"
    assert "x" * 100 in finding.detail
    assert f"the index in {tmp_path};" in machine.check_disk(given).detail


def test_a_file_that_is_changed_during_the_check_must_be_checked_again(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = store_checks._connected

    def changed(file: store_checks.StoreFile) -> sqlite3.Connection:
        execute(store / "image.sqlite3", "delete from nodes where id = 1")
        return connected(file)

    monkeypatch.setattr(store_checks, "_connected", changed)
    finding = found(store_checks.check_store(context(store=store)))
    assert finding.status == "warning"
    assert "image.sqlite3 was changed during the check" in finding.detail


def test_a_missing_file_is_named(store: Path) -> None:
    (store / "default.sqlite3").unlink()
    finding = found(store_checks.check_store(context(store=store)))
    assert finding.status == "failed"
    assert "default.sqlite3 is missing" in finding.detail


@pytest.mark.parametrize(
    ("content", "detail"),
    [(b"no database" * 1000, "default.sqlite3 is damaged: file is not a database"), (b"", "has no tables")],
)
def test_a_file_that_is_no_database_fails_and_the_other_one_is_still_checked(
    store: Path, content: bytes, detail: str
) -> None:
    (store / "default.sqlite3").write_bytes(content)
    finding = found(store_checks.check_store(context(store=store)))
    assert finding.status == "failed"
    assert "image.sqlite3 is intact" in finding.detail
    assert detail in finding.detail
    assert "backup" in finding.advice


def test_damaged_pages_are_found(store: Path) -> None:
    file = store / "image.sqlite3"
    content = bytearray(file.read_bytes())
    content[2 * 16384 :] = b"\xff" * (len(content) - 2 * 16384)
    file.write_bytes(content)
    finding = found(store_checks.check_store(context(store=store)))
    assert finding.status == "failed"
    assert "image.sqlite3 is damaged" in finding.detail


def test_large_files_are_not_checked_for_damage(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_checks, "MAX_CHECKED", 1)
    finding = found(store_checks.check_store(context(store=store)))
    assert finding.status == "ok"
    assert "was not checked for damage" in finding.detail


def test_an_index_of_a_newer_version_fails(store: Path) -> None:
    execute(store / "image.sqlite3", f"pragma user_version = {len(MIGRATIONS) + 1}")
    finding = found(store_checks.check_store(context(store=store)))
    assert finding.status == "failed"
    assert "was written by a newer version" in finding.detail
    assert "pip install --upgrade llama-index-mm-zhipu" in finding.advice


@pytest.mark.parametrize(("is_writable", "status"), [(True, "ok"), (False, "failed")])
def test_an_index_of_an_earlier_version_must_be_writable(
    store: Path, is_writable: bool, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llama_index_mm_zhipu.vector_store.database.may_be_written", lambda path: is_writable)
    execute(store / "image.sqlite3", f"pragma user_version = {len(MIGRATIONS) - 1}")
    finding = found(store_checks.check_store(context(store=store)))
    assert finding.status == status
    assert f"image.sqlite3 has schema {len(MIGRATIONS) - 1}" in finding.detail


def test_an_index_that_may_only_be_read_is_in_order(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_index_mm_zhipu.vector_store.database.may_be_written", lambda path: False)
    finding = found(store_checks.check_store(context(store=store)))
    assert finding.status == "ok"
    assert finding.detail.endswith("read-only: can be searched, not added to")


@pytest.mark.parametrize(("is_default_model", "status"), [(True, "warning"), (False, "failed")])
def test_another_model_than_that_of_the_index_is_found_without_weights(
    store: Path, is_default_model: bool, status: str
) -> None:
    given = context(store=store, is_default_model=is_default_model)
    weights.check_weights(given)
    finding = found(store_checks.check_store(given))
    assert finding.status == status
    assert f"not with {OFFICIAL.architecture}" in finding.detail


def test_other_weights_of_the_same_architecture_are_found(store: Path, official_file: Path) -> None:
    recorded = json.dumps(f"{OFFICIAL.architecture} sha256:0123456789abcdef")
    execute(store / "image.sqlite3", f"update settings set value = '{recorded}' where key = 'model'")
    given = context(store=store)
    weights.check_weights(given)
    finding = found(store_checks.check_store(given))
    assert finding.status == "failed"
    assert "the weights differ" in finding.advice

    official_file.unlink()
    given = context(store=store)
    weights.check_weights(given)
    finding = found(store_checks.check_store(given))
    assert finding.status == "ok"
    assert "fingerprints cannot be compared" in finding.detail


def test_results_have_no_advice_by_default() -> None:
    assert Check("torch", "PyTorch", "ok", "torch 2.6.0").advice == ""
