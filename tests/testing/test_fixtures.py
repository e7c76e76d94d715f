"""The pytest plugin starts a mock server for each test that asks for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import llama_index_mm_zhipu.testing.fixtures  # noqa: F401  # otherwise the inner run would import the module and unload it at its end

pytest_plugins = ["pytester"]


def test_each_test_gets_a_running_mock_server(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["llama_index_mm_zhipu.testing.fixtures"]')
    pytester.makepyfile(
        """
        import urllib.request, urllib.error, pytest

        seen = []

        @pytest.mark.parametrize("time", [1, 2])
        def test_it_answers(mock_glm_server, time):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(mock_glm_server.url)
            assert mock_glm_server.connections == 1
            assert mock_glm_server not in seen
            seen.append(mock_glm_server)

        def test_it_is_gone_afterwards():
            assert [server.open_connections for server in seen] == [0, 0]
        """
    )
    pytester.runpytest_inprocess("-p", "no:asyncio").assert_outcomes(passed=3)


def test_the_testing_package_does_not_import_pytest() -> None:
    program = "import sys, llama_index_mm_zhipu.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
