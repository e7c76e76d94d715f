"""Key, password and images appear in no error, log or repr, not even in objects that an error refers to."""

from __future__ import annotations

import base64
import copy
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from ways import CHAT, Way

from llama_index_mm_zhipu import ZhipuMultiModal
from llama_index_mm_zhipu.llm import GLMConnectionError, GLMError, GLMTimeoutError
from llama_index_mm_zhipu.llm.endpoint import (
    is_http_url,
    mask_secrets,
    secrets_of,
    split_credentials,
    without_credentials,
)
from llama_index_mm_zhipu.testing import (
    Compressed,
    Cut,
    ErrorAnswer,
    Fault,
    GatewayError,
    MockGLMServer,
    RawAnswer,
    Stall,
)

Connect = Callable[..., ZhipuMultiModal]

PASSWORD = "hunter2/pässword"
LOGIN = "gateway-user:hunter2%2Fp%C3%A4ssword@"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and the errors in its context."""
    while error is not None:
        yield error
        assert error.__cause__ is None
        error = error.__context__


@pytest.mark.parametrize(
    "fault",
    [
        Cut(),
        Cut(after=2),
        Cut(after=2, reset=True),
        Stall(),
        Stall(after=2),
        Compressed("gzip", header="br"),
        RawAnswer(b"\x1f\x8b\x00", content_type="application/json"),
        ErrorAnswer(401, "1002", "x"),
        GatewayError(401, "x"),
    ],
    ids=repr,
)
async def test_an_error_has_no_context(fault: Fault, way: Way, connect: Connect, server: MockGLMServer) -> None:
    server.script(fault)
    settings = {"timeout": 0.3} if isinstance(fault, Stall) else {}
    with pytest.raises(GLMError) as caught:
        await way.ask(connect(max_retries=0, **settings))
    assert [*chain(caught.value)] == [caught.value]


async def test_a_connection_error_has_no_context(way: Way, key: str) -> None:
    with MockGLMServer() as gone:
        url = gone.url
    with pytest.raises(GLMConnectionError) as caught:
        await way.ask(ZhipuMultiModal(api_key=key, api_base=url, max_retries=1, deadline=5))
    assert [*chain(caught.value)] == [caught.value]


async def test_a_printed_traceback_shows_neither_key_nor_image(
    way: Way, connect: Connect, server: MockGLMServer, photos: list[Path]
) -> None:
    chat = [ChatMessage(role="user", blocks=[ImageBlock(path=photos[0]), TextBlock(text="?")])]
    server.script(Stall())
    with pytest.raises(GLMTimeoutError) as caught:
        await way.ask(connect(max_retries=0, timeout=0.3), chat)
    shown = "".join(traceback.format_exception(caught.value))
    assert "httpx." not in shown
    assert not any(secret in shown for secret in ("0123456789abcdef", "s3cr3tpart", "/9j/"))


@pytest.mark.parametrize("quote", ["{key}", "Bearer {key}", "{secret}", "secret={secret}!", "{key} {secret}"])
async def test_parts_of_the_key_that_the_api_quotes_are_masked(
    quote: str, way: Way, connect: Connect, server: MockGLMServer, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = key.split(".")[1]
    said = quote.format(key=key, secret=secret)
    for fault in (ErrorAnswer(401, "1002", said), GatewayError(401, said), GatewayError(401, said, after=1)):
        server.script(fault)
        with pytest.raises(GLMError, match="…") as caught:
            await way.ask(connect())
        assert secret not in caplog.text + repr(caught.value) + str(vars(caught.value))


@pytest.mark.parametrize("position", range(470, 501, 5))
def test_a_long_message_is_not_cut_inside_the_key(
    position: int, connect: Connect, server: MockGLMServer, key: str
) -> None:
    server.fail_next(401, "1002", f"{'错' * position}{key} {'错' * 100}")
    with pytest.raises(GLMError) as caught:
        connect().chat(CHAT)
    assert not any(part[:4] in str(caught.value) for part in key.split("."))


def test_short_parts_of_made_up_keys_are_not_masked() -> None:
    assert mask_secrets("check the key", secrets_of("demo.key", "http://localhost")) == "check the key"
    assert mask_secrets("demo.key", secrets_of("demo.key", "http://localhost")) == "…"


# A password in the URL


@pytest.fixture
def url(server: MockGLMServer) -> str:
    """The server's URL with a password, which it does not ask for."""
    return server.url.replace("http://", f"http://{LOGIN}")


def assert_no_password(text: str) -> None:
    basic = base64.b64encode(f"gateway-user:{PASSWORD}".encode()).decode()
    assert not any(secret in text for secret in (PASSWORD, LOGIN, "hunter2", "ssword", basic))


async def test_a_password_is_in_no_repr_error_or_log(
    way: Way, url: str, key: str, server: MockGLMServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    llm = ZhipuMultiModal(api_key=key, api_base=url, max_retries=0)
    basic = base64.b64encode(f"gateway-user:{PASSWORD}".encode()).decode()
    server.script(ErrorAnswer(200, "1210", f"Basic {basic}, {PASSWORD}, {LOGIN}"))
    with pytest.raises(GLMError, match="Basic …, …, gateway-user:…@") as caught:
        await way.ask(llm)
    shown = [repr(llm), str(llm), llm.to_json(), str(llm.to_dict()), str(llm.model_dump())]
    assert_no_password(
        "".join(shown) + str(llm.to_payload()) + caplog.text + repr(caught.value) + str(vars(caught.value))
    )
    assert all(server.url in text for text in shown)
    assert llm.api_base == url


async def test_a_password_is_sent_instead_of_the_key(way: Way, url: str, key: str, server: MockGLMServer) -> None:
    # The mock server only accepts keys.
    with pytest.raises(GLMError, match="code 1002"):
        await way.ask(ZhipuMultiModal(api_key=key, api_base=url))


def test_copies_keep_the_password(url: str, key: str) -> None:
    llm = ZhipuMultiModal(api_key=key, api_base=url)
    for other in (copy.copy(llm), copy.deepcopy(llm), pickle.loads(pickle.dumps(llm))):
        assert other.api_base == url


@pytest.mark.parametrize(
    "url", ["http://u:hunter2@", "http://u:hunter2@h:99999", "u:hunter2@h", "http://u:hunter2/x@h"]
)
def test_an_invalid_url_is_refused_without_showing_its_password(key: str, url: str, llm: ZhipuMultiModal) -> None:
    with pytest.raises(ValueError, match="is not a URL such as") as caught:
        ZhipuMultiModal(api_key=key, api_base=url)
    assert_no_password(str(caught.value))
    with pytest.raises(ValueError, match="is not a URL such as") as caught:
        llm.api_base = url
    assert_no_password(str(caught.value))


def test_errors_about_the_environment_do_not_quote_the_key(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"htp://{key}@proxy")
    with pytest.raises(GLMConnectionError, match="check the environment's proxy") as caught:
        ZhipuMultiModal(api_key=key).chat(CHAT)
    assert [*chain(caught.value)] == [caught.value]
    assert key.split(".")[1] not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown", "login"),
    [
        ("https://host/api", "https://host/api", None),
        ("https://user:pass@host:8443/api", "https://host:8443/api", ("user", "pass")),
        ("https://token@host/api", "https://host/api", ("token", "")),
        ("https://host/@me", "https://host/@me", None),
    ],
)
def test_urls_are_shown_without_their_credentials(url: str, shown: str, login: tuple[str, str] | None) -> None:
    assert is_http_url(url)
    assert without_credentials(url) == shown
    assert split_credentials(url) == (shown, login)
