"""Files and commands on the pages about operations fit the repository and the command line, in both languages."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import yaml
from blocks import Block, blocks_in

from llama_index_mm_zhipu.cli.parser import PROGRAM, build_parser, parse
from llama_index_mm_zhipu.cli.wording import WORDING

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
LANGUAGES = ("en", "zh")
PAGES = ("deployment", "gpu", "sizing", "windows")
FILES = {
    "Dockerfile",
    "compose.yaml",
    "mmzhipu-index.service",
    "mmzhipu-index.timer",
    "mmzhipu.nginx.conf",
    "mmzhipu.service",
    "prometheus.yml",
    "register_tasks.ps1",
    "secrets.env",
}


def blocks_of(language: str) -> list[Block]:
    """Return the blocks of the pages in a language, in order."""
    folder = ROOT / "docs" / language / "operations"
    return [block for page in PAGES for block in blocks_in((folder / f"{page}.md").read_text(encoding="utf-8"))]


@pytest.fixture(params=LANGUAGES)
def files(request: pytest.FixtureRequest) -> dict[str, str]:
    """The files on the pages by their names."""
    return {block.title: block.code for block in blocks_of(request.param) if block.title in FILES}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def parsed(arguments: list[str]) -> Namespace:
    """Return the options of a command line, without the name of the program; a wrong one fails the test."""
    return parse(build_parser(WORDING["en"]), arguments)


def without_comments(code: str) -> str:
    return re.sub(r"^ *#.*\n| +#.*", "", code, flags=re.MULTILINE)


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments, on one line each."""
    lines = re.sub(r"\\\n\s*", "", without_comments(dockerfile)).splitlines()
    return [(name, arguments) for name, _, arguments in (line.partition(" ") for line in lines if line)]


def of_name(found: list[tuple[str, str]], name: str) -> list[str]:
    return [arguments for each, arguments in found if each == name]


def unit(text: str) -> configparser.ConfigParser:
    """Return a unit of systemd."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


# Both languages


def test_both_languages_have_the_same_code_but_for_comments() -> None:
    english, chinese = (
        [
            (block.language, block.title, without_comments(block.code))
            for block in blocks_of(language)
            if block.title not in ("Output", "输出")
        ]
        for language in LANGUAGES
    )
    assert english == chinese


def test_each_file_is_on_a_page_once() -> None:
    titles = [block.title for block in blocks_of("en") if block.title and block.language not in ("python", "text")]
    assert sorted(titles) == sorted(FILES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_excerpts_are_from_the_programs_that_they_name(language: str) -> None:
    excerpts = [block for block in blocks_of(language) if block.title.startswith("examples/")]
    assert excerpts
    for block in excerpts:
        program = (ROOT / block.title).read_text(encoding="utf-8")
        assert without_comments(block.code) in without_comments(program)


@pytest.mark.parametrize("language", LANGUAGES)
def test_commands_on_the_pages_are_understood(language: str) -> None:
    shell = "\n".join(block.code for block in blocks_of(language) if block.language in ("bash", "powershell"))
    text = "".join(
        (ROOT / "docs" / language / "operations" / f"{page}.md").read_text(encoding="utf-8") for page in PAGES
    )
    commands = re.findall(r"^mmzhipu (.+)$|docker compose run --rm \w+ (.+)$", shell, re.MULTILINE)
    commands += re.findall(r"`mmzhipu ((?:index|search|mcp|doctor|serve)\b[^`…]*)`()", text)
    assert len(commands) >= 5
    for first, second in commands:
        parsed(shlex.split(first or second))


@pytest.mark.parametrize("language", LANGUAGES)
def test_extras_on_the_pages_exist(language: str, project: dict[str, Any]) -> None:
    code = "\n".join(block.code for block in blocks_of(language))
    named = re.findall(r'"(?:llama-index-mm-zhipu|\.)\[([\w,]+)\]"', code)
    assert len(named) == 3
    assert {extra for names in named for extra in names.split(",")} <= project["optional-dependencies"].keys()


# Docker


def test_the_dockerfile_copies_what_the_installation_needs(files: dict[str, str], project: dict[str, Any]) -> None:
    found = instructions(files["Dockerfile"])
    copied = {source for arguments in of_name(found, "COPY") for source in arguments.split()[:-1]}
    assert all((ROOT / source).exists() for source in copied)
    assert {"pyproject.toml", project["readme"], *project["license-files"], "llama_index_mm_zhipu"} <= copied
    used = re.findall(r"--(?:overrides|constraints) (\S+)", files["Dockerfile"])
    assert len(used) == 2
    assert all((ROOT / path).is_file() and path.partition("/")[0] in copied for path in used)


def test_the_image_serves_as_a_user_and_checks_its_health(files: dict[str, str]) -> None:
    found = instructions(files["Dockerfile"])
    names = [name for name, _ in found]
    assert names.index("USER") < names.index("CMD")
    assert of_name(found, "USER") == ["mmzhipu"]
    assert json.loads(of_name(found, "ENTRYPOINT")[0]) == [PROGRAM]
    options = parsed(json.loads(of_name(found, "CMD")[0]))
    assert (options.command, options.host, options.create) == ("serve", "0.0.0.0", True)
    assert of_name(found, "EXPOSE") == [str(options.port)]
    [health] = of_name(found, "HEALTHCHECK")
    python, flag, program = json.loads(health.partition("CMD ")[2])
    assert (python, flag) == ("python", "-c")
    compile(program, "health", "exec")
    assert f"http://127.0.0.1:{options.port}/healthz" in program
    assert any(str(options.store).startswith(folder) for folder in json.loads(of_name(found, "VOLUME")[0]))


def test_the_services_of_compose_fit_the_image(files: dict[str, str]) -> None:
    found = instructions(files["Dockerfile"])
    compose = yaml.safe_load(files["compose.yaml"])
    server = compose["services"]["server"]
    [port] = of_name(found, "EXPOSE")
    # Only the proxy on the same machine may reach it.
    assert server["ports"] == [f"127.0.0.1:{port}:{port}"]
    mounts = dict(each.split(":")[:2] for each in server["volumes"])
    assert set(json.loads(of_name(found, "VOLUME")[0])) == {mounts[name] for name in compose["volumes"]}
    # Secrets are in a file of their own.
    assert "env_file" in server
    assert not {"ZHIPUAI_API_KEY", "MMZHIPU_TOKEN"} & server["environment"].keys()


# Secrets and systemd


def test_the_file_of_secrets_names_what_is_read(files: dict[str, str]) -> None:
    pytest.importorskip("starlette")
    from llama_index_mm_zhipu.cli.commands.serve_command import TOKEN_VARIABLE

    names = [line.partition("=")[0] for line in without_comments(files["secrets.env"]).splitlines()]
    assert names == ["ZHIPUAI_API_KEY", TOKEN_VARIABLE]


@pytest.mark.parametrize(("name", "command"), [("mmzhipu.service", "serve"), ("mmzhipu-index.service", "index")])
def test_units_run_commands_that_are_understood(files: dict[str, str], name: str, command: str) -> None:
    service = unit(files[name])["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    assert Path(program).name == PROGRAM
    assert parsed(arguments).command == command
    variables = dict(each.split("=") for each in service["Environment"].split())
    assert Path(variables["MMZHIPU_STORE"]).parent == Path(variables["HOME"]) == Path(service["WorkingDirectory"])
    assert service["WorkingDirectory"] == f"/var/lib/{service['StateDirectory']}"
    assert service["User"] != "root"


def test_the_timer_starts_the_unit_of_its_name(files: dict[str, str]) -> None:
    assert "OnCalendar" in unit(files["mmzhipu-index.timer"])["Timer"]
    assert unit(files["mmzhipu-index.service"])["Service"]["Type"] == "oneshot"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_finds_no_fault_in_the_units(files: dict[str, str], tmp_path: Path) -> None:
    paths = [tmp_path / name for name in files if name.startswith("mmzhipu") and name.endswith((".service", ".timer"))]
    for path in paths:
        # The program is not installed there.
        text = re.sub(r"(?<=ExecStart=)\S+", "/bin/true", files[path.name])
        path.write_text(text.replace("User=mmzhipu", "User=root"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
    # It also reports faults of the machine's own units.
    ours = [line for line in done.stderr.splitlines() if "mmzhipu" in line]
    assert (ours, len(paths)) == ([], 3)


# The proxy, metrics and Windows


def test_the_proxy_passes_on_what_the_server_needs(files: dict[str, str]) -> None:
    pytest.importorskip("starlette")
    from llama_index_mm_zhipu.server.events import KEEP_ALIVE_SECONDS
    from llama_index_mm_zhipu.server.forms import MAX_FILE_BYTES

    text = without_comments(files["mmzhipu.nginx.conf"])
    assert text.count("{") == text.count("}") == 2
    assert all(line.endswith((";", "{", "}")) for line in text.split("\n") if line.strip())
    directives = dict(re.findall(r"^ +(\w+) (.+);$", text, re.MULTILINE))
    assert directives["proxy_pass"] == f"http://127.0.0.1:{parsed(['serve']).port}"
    assert directives["proxy_set_header"] == "Host $http_host"
    assert directives["proxy_buffering"] == "off"
    assert int(directives["proxy_read_timeout"].removesuffix("s")) > KEEP_ALIVE_SECONDS
    assert int(directives["client_max_body_size"].removesuffix("m")) * 2**20 > MAX_FILE_BYTES


def test_prometheus_asks_the_server_with_the_token(files: dict[str, str]) -> None:
    [job] = yaml.safe_load(files["prometheus.yml"])["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"127.0.0.1:{parsed(['serve']).port}"]
    assert "credentials_file" in job["authorization"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_metrics_of_the_table_exist(language: str) -> None:
    pytest.importorskip("prometheus_client")
    from llama_index_mm_zhipu.server.metrics import Metrics

    page = (ROOT / "docs" / language / "operations" / "deployment.md").read_text(encoding="utf-8")
    metrics = Metrics()
    metrics.count_request("/healthz", 200)
    exposed = metrics.text(images=1, chats=1).decode()
    listed = re.findall(r"^\| `(mmzhipu_\w+)", page, re.MULTILINE)
    assert len(listed) == 4
    assert all(f"# TYPE {name} " in exposed for name in listed)


def test_scheduled_tasks_run_commands_that_are_understood(files: dict[str, str]) -> None:
    script = files["register_tasks.ps1"]
    # Paths of Windows hold backslashes, which are no escapes there.
    commands = [line.split() for line in re.findall(r'^\$run = "(.+)"$', script, re.MULTILINE)]
    assert [parsed(arguments).command for arguments in commands] == ["index", "serve"]
    assert script.count("Register-ScheduledTask") == script.count("-Argument $run") == 2
