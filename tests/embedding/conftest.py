"""Fixtures of the embedding tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Texts of several lengths, from one character to the maximum of the text encoder."""
    return ["猫", "飞机", "一架白色的飞机停在机场上", "红色的 SUV，2024 款，售价 19.98 万元！", "图" * 50]
