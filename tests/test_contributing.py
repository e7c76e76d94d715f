"""What contributors are told and what GitHub runs agree with the Makefile, ``.ci/run`` and pyproject.toml."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import llama_index_mm_zhipu

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
CONTRIBUTING = ROOT / "CONTRIBUTING.md"

CLASSIFIERS = {
    "ubuntu-latest": "Operating System :: POSIX :: Linux",
    "macos-latest": "Operating System :: MacOS",
    "windows-latest": "Operating System :: Microsoft :: Windows",
}


def read_yaml(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def plain(command: str) -> str:
    """A command of the Makefile as it is typed with an interpreter on the path, on one line."""
    values = {"$(PYTHON)": "python", "$(PY)": "python", "$(WORKERS)": "2", "$*": "dev"}
    for name, value in values.items():
        command = command.replace(name, value)
    return " ".join(command.split())


def recipes() -> dict[str, list[str]]:
    """The commands of each target of the Makefile."""
    found: dict[str, list[str]] = {}
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if target := re.match(r"([\w./%-]+):(?!=)", line):
            commands = found.setdefault(target[1], [])
        elif line.startswith("\t"):
            commands.append(plain(line))
    return found


def runs(workflow: Path) -> Iterator[str]:
    """The commands of a workflow, each line of a step by itself."""
    for job in read_yaml(workflow)["jobs"].values():
        for step in job["steps"]:
            yield from step.get("run", "").splitlines()


def makes_of_ci() -> list[str]:
    """The targets that ``.ci/run`` makes."""
    lines = re.findall(r"^make (.+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [word for line in lines for word in line.split() if not word.startswith("--")]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.name)
def test_workflows_run_what_the_makefile_has(workflow: Path) -> None:
    known = {f"make {target}" for target in recipes()}.union(*recipes().values())
    commands = set(runs(workflow))
    assert commands
    assert commands - known == set()


def test_ci_on_github_checks_what_ci_run_checks() -> None:
    commands = set(runs(ROOT / ".github" / "workflows" / "ci.yml"))
    assert makes_of_ci()
    for target in makes_of_ci():
        assert f"make {target}" in commands or commands.issuperset(recipes()[target]), target


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.name)
def test_workflows_have_few_permissions_and_an_end(workflow: Path) -> None:
    content = read_yaml(workflow)
    assert content["permissions"] == {"contents": "read"}
    for name, job in content["jobs"].items():
        assert job["timeout-minutes"] <= 90, name
        assert job.get("permissions", {"id-token": "write"}) in ({"id-token": "write"}, {"contents": "write"}), name


def test_only_the_jobs_that_publish_get_a_token_and_they_run_no_code() -> None:
    jobs = [job for workflow in WORKFLOWS for job in read_yaml(workflow)["jobs"].values() if "permissions" in job]
    assert sorted(job["environment"]["name"] for job in jobs) == ["github-pages", "pypi"]
    assert not any("run" in step or "checkout" in step["uses"] for job in jobs for step in job["steps"])


def test_the_matrix_is_that_of_the_classifiers() -> None:
    matrix = read_yaml(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    project = pyproject()["project"]
    prefix = "Programming Language :: Python :: "
    declared = [text.removeprefix(prefix) for text in project["classifiers"] if re.match(rf"{prefix}3\.\d+$", text)]
    assert matrix["python"] == declared
    assert f">={declared[0]}" == project["requires-python"]
    systems = {text for text in project["classifiers"] if text.startswith("Operating System")}
    assert {CLASSIFIERS[system] for system in matrix["os"]} == systems


@pytest.mark.parametrize("form", [form for form in FORMS if form.name != "config.yml"], ids=lambda file: file.name)
def test_issue_forms_are_complete(form: Path) -> None:
    content = read_yaml(form)
    assert content.keys() == {"name", "description", "labels", "body"}
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert len({field["attributes"]["label"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_pre_commit_runs_the_linters_of_make_lint() -> None:
    hooks = [hook for repo in read_yaml(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    linters = {" ".join(command.split()[:3]) for command in recipes()["lint"]}
    assert {" ".join(plain(hook["entry"].replace(".venv/bin/", "")).split()[:3]) for hook in hooks} == linters


def test_the_package_index_shows_every_page() -> None:
    urls = pyproject()["project"]["urls"]
    assert urls.keys() == {"Homepage", "Documentation", "Repository", "Changelog", "Issues"}
    for url in urls.values():
        _, _, path = url.removeprefix(urls["Repository"]).partition("/main/")
        assert url.startswith((urls["Repository"], "https://llama-index-mm-zhipu.github.io/llama-index-mm-zhipu/"))
        assert (ROOT / path).exists(), url


def test_llamahub_finds_the_classes() -> None:
    hub = pyproject()["tool"]["llamahub"]
    assert hub["import_path"] == llama_index_mm_zhipu.__name__
    assert set(hub["class_authors"]) <= set(llama_index_mm_zhipu.__all__)
    assert hub["contains_example"] == (ROOT / "examples").is_dir()


def test_the_citation_has_the_version_of_the_package() -> None:
    citation = read_yaml(ROOT / "CITATION.cff")
    project = pyproject()["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["repository-code"] == project["urls"]["Repository"]


def test_contributing_describes_each_marker() -> None:
    markers = {text.partition(":")[0] for text in pyproject()["tool"]["pytest"]["ini_options"]["markers"]}
    rows = re.findall(r"^\| `(\w+)` \|", CONTRIBUTING.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(rows) == markers


def test_contributing_names_what_exists() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    assert set(re.findall(r"(?:`|^)make ([\w-]+)", text, flags=re.MULTILINE)) <= recipes().keys()
    for path in re.findall(r"\b(?:benchmarks|docs|llama_index_mm_zhipu|requirements|tests)/[\w./-]+\w", text):
        assert (ROOT / path).exists(), path
    for path, test in re.findall(r"(tests/\S+\.py)::(\w+)", text):
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), test
    for path, name in [("readers/base.py", "ImageReader"), ("embedding/backends/__init__.py", "Backend")]:
        assert f"class {name}(" in (ROOT / "llama_index_mm_zhipu" / path).read_text(encoding="utf-8"), name
