"""Every probe against Zhipu's service: ``ZHIPUAI_API_KEY=… pytest -m live``.

``ZHIPUAI_BASE_URL`` names another deployment, ``LIVE_TABLE`` a file for the table in Markdown, ``LIVE_PAUSE`` the
seconds between probes. Only free models are asked, and GLM-OCR, which is not free, about some thirty pages. A probe
fails if its outcome is not the assumed one. Then put the service's outcome into ``probes.py`` or ``layout_probes.py``,
and change the package or its mock server if needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from live_api import Api
from probe import Probe
from probes import PROBES

from llama_index_mm_zhipu.llm.endpoint import DEFAULT_API_BASE

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        not os.environ.get("ZHIPUAI_API_KEY", "").strip(), reason="no key for Zhipu's API in ZHIPUAI_API_KEY"
    ),
    pytest.mark.timeout(1_200),
]

PAUSE = float(os.environ.get("LIVE_PAUSE", "1"))


@pytest.fixture(scope="module")
def service() -> Iterator[Api]:
    """Zhipu's service, or the deployment at ``ZHIPUAI_BASE_URL``."""
    api = Api(os.environ.get("ZHIPUAI_BASE_URL") or DEFAULT_API_BASE, os.environ["ZHIPUAI_API_KEY"].strip())
    yield api
    api.close()


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_the_service_behaves_as_assumed(
    probe: Probe, service: Api, record_property: Callable[[str, object], None]
) -> None:
    outcome = probe.outcome_when_not_busy(service, PAUSE)
    record_property("probe", probe.name)
    record_property("outcome", outcome)
    if outcome != probe.expected:
        # Without a traceback, which could show the key.
        pytest.fail(f"{probe.fact}\nassumed: {probe.expected}\nservice: {outcome}", pytrace=False)
