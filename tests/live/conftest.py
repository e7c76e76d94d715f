"""Prints a table of assumed and observed outcomes at the end of a live run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from live_table import LEGEND, markdown_table, terminal_table
from probes import PROBES


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table, and write it as Markdown to the file that ``LIVE_TABLE`` in the environment names."""
    seen = _outcomes(terminalreporter)
    rows = [probe.row(seen[probe.name]) for probe in PROBES if probe.name in seen]
    if not rows:
        return
    terminalreporter.section("GLM API, assumed and observed")
    for line in terminal_table(rows):
        terminalreporter.write_line(line)
    differing = sum(row[-1] == "≠" for row in rows)
    terminalreporter.write_line(f"{len(rows)} probes, {differing} differ from what is assumed. {LEGEND}")
    if file := os.environ.get("LIVE_TABLE"):
        Path(file).write_text(markdown_table(rows), encoding="utf-8")


def _outcomes(terminalreporter: Any) -> dict[str, str]:
    """Return the outcomes that the live tests recorded, by probe."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    calls = [report for report in reports if isinstance(report, pytest.TestReport) and report.when == "call"]
    recorded = [{name: str(value) for name, value in report.user_properties} for report in calls]
    return {properties["probe"]: properties["outcome"] for properties in recorded if "probe" in properties}
