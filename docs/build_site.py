"""Build the site: both languages, with search, for reading offline or for publishing.

Run with ``make site`` on Python >= 3.11, which writes it to ``site/``. The pages are copied to a folder for each
language, in which links to other files of the repository become links to GitHub, and Zensical makes HTML of them. The
site has a folder for each language, and in it one for each version: ``site/zh/0.1/``. Versions that are already in the
output folder stay.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import tomllib
from blocks import changed_outside

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
SITE = DOCS / "site"
SHARED = ("images", "reference")
"""Folders of ``docs`` that both languages have."""

REPOSITORY = "https://github.com/llama-index-mm-zhipu/llama-index-mm-zhipu"

LANGUAGES = {
    "zh": {
        "description": "面向 LlamaIndex 的中文多模态 RAG：按中文或图片检索图片，根据图片回答问题",
        "light": "切换到浅色",
        "dark": "切换到深色",
        "system": "跟随系统",
    },
    "en": {
        "description": "Chinese multimodal RAG for LlamaIndex: search images by Chinese words or by image, and ask",
        "light": "Switch to light mode",
        "dark": "Switch to dark mode",
        "system": "Follow the system",
    },
}
"""Words of the configuration by language; the first language is the one that the site opens with."""

_LINK = re.compile(r'(?P<before>\]\(|src=")(?P<target>[^)#"\s]+)(?P<rest>[)#"])')
# A line break between Chinese characters: browsers would show a blank.
_BREAK = re.compile(r"(?<=[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef])\n *(?=[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef])")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_REDIRECT = """<!doctype html>
<html lang="{language}">
<meta charset="utf-8">
<title>llama-index-mm-zhipu</title>
<meta http-equiv="refresh" content="0; url={target}">
<p>{links}</p>
</html>
"""


class SiteError(Exception):
    """Raised when Zensical finds a link or an anchor without a target, or a page that is not in the menu."""


def build_site(output: Path, version: str) -> None:
    """Write the site of a version, beside other versions that the folder has.

    Args:
        output: Folder of the site; it is created.
        version: Name of the version, such as ``0.1``.

    Raises:
        SiteError: Links are dead, or pages are not in the menu.
    """
    output = output.resolve()
    for language in LANGUAGES:
        target = output / language / version
        shutil.rmtree(target, ignore_errors=True)
        with TemporaryDirectory() as scratch:
            folder = Path(scratch).resolve()
            _copy_pages(language, folder / "pages")
            _check_menu(language, folder / "pages")
            shutil.copytree(SITE / "theme", folder / "theme")
            _write_configuration(language, version, folder)
            _run_zensical(folder)
            shutil.copytree(folder / "html", target)
        versions = _record_version(output / language, version)
        _write_redirect(output / language / "index.html", {language: f"{versions[0]}/index.html"})
    _write_redirect(output / "index.html", {language: f"{language}/index.html" for language in LANGUAGES})


def pages_in_menu() -> list[str]:
    """Return the paths of the pages in the menu, with those of the reference; they are the same in each language."""
    return [
        page
        for section in _sections()
        for part in (section, *section.get("group", []))
        for page in part.get("pages", [])
    ]


def _sections() -> list[dict[str, Any]]:
    sections: list[dict[str, Any]] = tomllib.loads((SITE / "navigation.toml").read_text(encoding="utf-8"))["section"]
    return sections


def _check_menu(language: str, folder: Path) -> None:
    """Require the pages of the menu to exist, and all pages to be in the menu. Zensical checks neither."""
    listed = pages_in_menu()
    existing = {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")}
    for page in listed:
        if page not in existing:
            raise SiteError(f"docs/site/navigation.toml names {page}, which docs/{language} does not have")
    if missing := sorted(existing - set(listed)):
        raise SiteError(f"pages of docs/{language} are not in docs/site/navigation.toml: {', '.join(missing)}")


def _copy_pages(language: str, folder: Path) -> None:
    shutil.copytree(DOCS / language, folder, ignore=shutil.ignore_patterns("*.toml"))
    for name in SHARED:
        shutil.copytree(DOCS / name, folder / name)
    for page in folder.rglob("*.md"):
        inside = page.relative_to(folder)
        source = (DOCS if inside.parts[0] in SHARED else DOCS / language) / inside
        page.write_text(prepared_page(source.read_text(encoding="utf-8"), source, language), encoding="utf-8")


def prepared_page(text: str, source: Path, language: str) -> str:
    """Return the text of a page with links that hold in the folder of its language, and with joined Chinese lines."""
    place = source.relative_to(DOCS if source.relative_to(DOCS).parts[0] in SHARED else DOCS / language).parent

    def replaced(match: re.Match[str]) -> str:
        target = match["target"]
        if urlsplit(target).scheme:
            return match[0]
        path = Path(os.path.normpath(source.parent / target))
        return f"{match['before']}{_new_target(path, place, language)}{match['rest']}"

    return changed_outside(_CODE, text, lambda prose: _BREAK.sub("", _LINK.sub(replaced, prose)))


def _new_target(path: Path, place: Path, language: str) -> str:
    if path.is_relative_to(DOCS / language):
        inside = path.relative_to(DOCS / language)
    elif path.is_relative_to(DOCS) and path.relative_to(DOCS).parts[0] in SHARED:
        inside = path.relative_to(DOCS)
    else:
        kind = "tree" if path.is_dir() else "blob"
        return f"{REPOSITORY}/{kind}/main/{path.relative_to(ROOT).as_posix()}"
    return Path(os.path.relpath(inside, place)).as_posix()


def _write_configuration(language: str, version: str, folder: Path) -> None:
    menu = ",\n".join(f"  {_menu_entry(section, language)}" for section in _sections())
    template = Template((SITE / "zensical.toml").read_text(encoding="utf-8"))
    words = LANGUAGES[language] | {"language": language, "version": version, "output": "html"}
    text = template.substitute(words, navigation=menu)
    (folder / "zensical.toml").write_text(text, encoding="utf-8")


def _menu_entry(section: dict[str, Any], language: str) -> str:
    """Return a section of the menu as TOML: its title, and the list of its pages and groups. JSON texts are TOML."""
    pages = [json.dumps(page) for page in section.get("pages", [])]
    entries = [*pages, *(_menu_entry(group, language) for group in section.get("group", []))]
    return f"{{ {json.dumps(section[language], ensure_ascii=False)} = [{', '.join(entries)}] }}"


def _run_zensical(folder: Path) -> None:
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        report = _COLOUR.sub("", done.stdout + done.stderr).partition("Traceback")[0]
        raise SiteError(f"the site was not built:\n{report}")


def _record_version(folder: Path, version: str) -> list[str]:
    """Add a version to the list that the menu of versions is made from, newest first, and return the list."""
    file = folder / "versions.json"
    known = {entry["version"] for entry in json.loads(file.read_text(encoding="utf-8"))} if file.exists() else set()
    ordered = sorted(known | {version}, key=_version_key, reverse=True)
    entries = [
        {"version": each, "title": each, "aliases": ["latest"] if each == ordered[0] else []} for each in ordered
    ]
    file.write_text(json.dumps(entries, indent=1), encoding="utf-8")
    return ordered


def _version_key(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _write_redirect(file: Path, targets: dict[str, str]) -> None:
    """Write a page that leads to the first of the targets, with links to all of them."""
    names = {"zh": "中文", "en": "English"}
    links = " · ".join(f'<a href="{html.escape(target)}">{names[each]}</a>' for each, target in targets.items())
    language, target = next(iter(targets.items()))
    text = _REDIRECT.format(language=language, target=html.escape(target), links=links)
    file.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the site."""
    parser = argparse.ArgumentParser(description="Build the documentation as a site.")
    parser.add_argument("--output", type=Path, default=ROOT / "site", help="folder of the site (default: site)")
    parser.add_argument("--version", help="name of the version (default: the first two numbers of the package's)")
    options = parser.parse_args(arguments)
    version = options.version or ".".join(installed_version("llama-index-mm-zhipu").split(".")[:2])
    build_site(options.output, version)
    print(f"Wrote {options.output}; open {options.output / 'index.html'}")


if __name__ == "__main__":
    main()
