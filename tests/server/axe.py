"""axe-core, which finds what makes a page hard to use for people with disabilities."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from browser import Visit

PACKAGE = "axe-core@4"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
WIDTHS = (1280, 390)

_HEIGHT = 900
_RUN = "tags => axe.run(document, { runOnly: { type: 'tag', values: tags }, resultTypes: ['violations'] })"


def downloaded_axe(folder: Path) -> str:
    """Return the code of axe-core from the registry of npm; skip the test if it cannot be had.

    Args:
        folder: Where it is downloaded to.
    """
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm (Debian and Ubuntu: apt-get install npm)")
    packing = subprocess.run([npm, "pack", "--fetch-retries=1", PACKAGE], cwd=folder, capture_output=True, text=True)
    archive = next(folder.glob("*.tgz"), None)
    if packing.returncode or archive is None:
        pytest.skip(f"npm pack {PACKAGE} failed: {packing.stderr.strip().splitlines()[-1:]}")
    with tarfile.open(archive) as package:
        code = package.extractfile("package/axe.min.js")
        assert code is not None
        return code.read().decode()


def assert_accessible(visit: Visit, axe: str, state: str) -> None:
    """Check a page as it is now, light and dark, wide and narrow, and that it cannot be scrolled sideways.

    Args:
        visit: The page.
        axe: Code of axe-core.
        state: What the page shows, for the message.
    """
    found = []
    for scheme in ("light", "dark"):
        visit.page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            visit.page.set_viewport_size({"width": width, "height": _HEIGHT})
            if not visit.page.evaluate("'axe' in window"):
                visit.page.evaluate(axe)
            where = f"{state}, {scheme}, {width} px"
            found += [f"{where}: {_described(each)}" for each in visit.page.evaluate(_RUN, TAGS)["violations"]]
            if visit.is_too_wide():
                found.append(f"{where}: can be scrolled sideways")
    visit.page.emulate_media(color_scheme="light")
    visit.page.set_viewport_size({"width": WIDTHS[0], "height": _HEIGHT})
    # pytest explains assertions of test files only.
    assert not found, "\n".join(found)


def _described(violation: dict[str, Any]) -> str:
    nodes = "; ".join(f"{node['html'][:120]} {node['failureSummary']}" for node in violation["nodes"][:3])
    return f"{violation['id']}: {nodes}"
