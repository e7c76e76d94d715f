"""Keys of any form are sent unchanged to the right service, read from the environment and never shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from llama_index.core.bridge.pydantic import SecretStr
from ways import Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMAuthenticationError
from llama_index_mm_zhipu.llm.endpoint import mask_secrets, secrets_of
from llama_index_mm_zhipu.llm.transport import Transport
from llama_index_mm_zhipu.testing import ErrorAnswer, MockGLMServer

ZHIPU = "https://open.bigmodel.cn/api/paas/v4"
ZAI = "https://api.z.ai/api/paas/v4"
KEYS = ["id.secret", "sk-0123456789abcdef", "EMPTY", "sk-cp.0123.4567", "token-abc123", "a" * 164]


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix in ("ZHIPUAI", "ZAI"):
        for name in ("API_KEY", "BASE_URL"):
            monkeypatch.delenv(f"{prefix}_{name}", raising=False)


# Keys


@pytest.mark.parametrize("key", KEYS)
def test_keys_of_any_form_are_sent_as_bearer_tokens(key: str) -> None:
    transport = Transport(key, "http://127.0.0.1:1/v4", 1.0, style="glm", require_finish_reason=True)
    assert transport._headers["Authorization"] == f"Bearer {key}"


@pytest.mark.parametrize(
    "given",
    [
        " id.secret\n",
        '"id.secret"',
        "'id.secret'",
        "“id.secret”",
        "‘id.secret’",
        "「id.secret」",
        "\ufeff\u3000`id.secret`",
    ],
)
def test_quotes_and_spaces_around_a_key_are_stripped(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ZhipuMultiModal(api_key=given).api_key.get_secret_value() == "id.secret"
    assert ZhipuMultiModal(api_key=SecretStr(given)).api_key.get_secret_value() == "id.secret"
    monkeypatch.setenv("ZHIPUAI_API_KEY", given)
    llm = ZhipuMultiModal()
    assert llm.api_key.get_secret_value() == "id.secret"
    llm.api_key = given  # type: ignore[assignment]
    assert llm.api_key.get_secret_value() == "id.secret"


@pytest.mark.parametrize("given", ["Bearer s3cr3t", "s3cr3t密钥", "s3cr3t\x00", "s3 cr3t"])
def test_a_key_with_invalid_characters_is_refused_without_showing_it(given: str) -> None:
    with pytest.raises(ValueError, match="holds a blank or a character outside ASCII") as caught:
        ZhipuMultiModal(api_key=given)
    assert "cr3t" not in str(caught.value)
    llm = ZhipuMultiModal(api_key="id.secret")
    with pytest.raises(ValueError, match="holds a blank or a character outside ASCII") as caught:
        llm.api_key = given  # type: ignore[assignment]
    assert "cr3t" not in str(caught.value)


@pytest.mark.parametrize("given", ["", "  ", '""', "“”"])
def test_an_empty_key_counts_as_missing(given: str) -> None:
    with pytest.raises(ValueError, match=r'no API key.*any key, give api_key="EMPTY"'):
        ZhipuMultiModal(api_key=given)


# Environment


@pytest.mark.parametrize(
    ("environment", "key", "base"),
    [
        ({"ZHIPUAI_API_KEY": "a.zhipu"}, "a.zhipu", ZHIPU),
        ({"ZAI_API_KEY": "b.zai"}, "b.zai", ZAI),
        ({"ZHIPUAI_API_KEY": "a.zhipu", "ZAI_API_KEY": "b.zai"}, "a.zhipu", ZHIPU),
        ({"ZHIPUAI_API_KEY": " ", "ZAI_API_KEY": "b.zai"}, "b.zai", ZAI),
        ({"ZHIPUAI_API_KEY": "a.zhipu", "ZHIPUAI_BASE_URL": "http://zhipu"}, "a.zhipu", "http://zhipu"),
        ({"ZHIPUAI_API_KEY": "a.zhipu", "ZAI_BASE_URL": "http://zai"}, "a.zhipu", "http://zai"),
        ({"ZAI_API_KEY": "b.zai", "ZAI_BASE_URL": '"http://zai"'}, "b.zai", "http://zai"),
        ({"ZAI_API_KEY": "b.zai", "ZHIPUAI_BASE_URL": "http://zhipu"}, "b.zai", "http://zhipu"),
        (
            {"ZAI_API_KEY": "b.zai", "ZAI_BASE_URL": "http://zai", "ZHIPUAI_BASE_URL": "http://zhipu"},
            "b.zai",
            "http://zai",
        ),
        ({"ZHIPUAI_API_KEY": "a.zhipu", "ZAI_API_KEY": "b.zai", "ZAI_BASE_URL": "http://zai"}, "a.zhipu", ZHIPU),
    ],
)
def test_a_key_from_the_environment_is_sent_to_its_own_service(
    environment: dict[str, str], key: str, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    llm = ZhipuMultiModal()
    assert (llm.api_key.get_secret_value(), llm.api_base) == (key, base)


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZAI_API_KEY", "b.zai")
    llm = ZhipuMultiModal(api_key="c.given")
    assert (llm.api_key.get_secret_value(), llm.api_base) == ("c.given", ZHIPU)
    monkeypatch.setenv("ZAI_BASE_URL", "http://zai")
    assert ZhipuMultiModal(api_key="c.given").api_base == "http://zai"
    monkeypatch.setenv("ZHIPUAI_BASE_URL", "http://zhipu")
    assert ZhipuMultiModal(api_key="c.given").api_base == "http://zhipu"
    assert ZhipuMultiModal(api_base="http://given").api_base == "http://given"


# Secrets


@pytest.mark.parametrize("key", ["sk-0123456789abcdef", "sk-cp-98765.43210abcdef", "token-abc123"])
async def test_a_key_of_any_form_is_masked(
    key: str, way: Way, connect: Callable[..., ZhipuMultiModal], server: MockGLMServer
) -> None:
    llm = connect(api_key=key)
    shown = repr(llm) + str(llm) + llm.to_json() + str(llm.to_dict()) + str(llm.model_dump())
    server.script(ErrorAnswer(401, "1002", f"Incorrect API key provided: {key}."))
    with pytest.raises(GLMAuthenticationError, match=r"Incorrect API key provided: …\.") as caught:
        await way.ask(llm)
    assert key not in shown + repr(caught.value) + str(vars(caught.value))


def test_placeholders_for_keys_are_not_masked() -> None:
    for key in ("EMPTY", "none", "not-needed"):
        message = f"the answer is {key}"
        assert mask_secrets(message, secrets_of(key, "http://localhost")) == message
