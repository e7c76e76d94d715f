"""The small programs in ``examples/`` do what they say: an HTTP service, an agent, a daily job, an evaluation."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from asgi import served
from blocks import blocks_in, with_model
from filelock import FileLock
from gates import Held
from PIL import Image
from published_forms import Example
from waiting import PATIENCE, wait_until

from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index, read_jsonl
from llama_index_mm_zhipu.index import ImageIndex
from llama_index_mm_zhipu.testing import Cut, ErrorAnswer, Fault, MockGLMServer
from llama_index_mm_zhipu.testing.answers import GREETING

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

Load = Callable[[Path], ModuleType]


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ZHIPUAI_API_KEY", "ZAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def emoji(examples: list[Example], tmp_path: Path) -> Path:
    """A jsonl file of ten emoji, whose ids are their numbers."""
    file = tmp_path / "emoji.jsonl"
    lines = [
        json.dumps({"image_id": str(each.number), "image_base64": each.base64, "caption": each.caption})
        for each in examples
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


@pytest.fixture
def emoji_index(emoji: Path, demo_embedding: ChineseClipEmbedding, tmp_path: Path) -> Iterator[ImageIndex]:
    """An index of the emoji in the folder ``store``."""
    index = build_index(read_jsonl(emoji, id_prefix=""), demo_embedding, persist_dir=tmp_path / "store")
    yield index
    index.close()


def run(program: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    """Run a program with a command line, and return what its ``main`` does."""
    monkeypatch.setattr("sys.argv", [str(program.__file__), *map(str, arguments)])
    return program.main()


# fastapi_service.py


@pytest.fixture
def service(load_script: Load) -> ModuleType:
    pytest.importorskip("fastapi")
    return load_script(Path("examples/fastapi_service.py"))


@pytest.fixture
def client(
    service: ModuleType, emoji_index: ImageIndex, connect: Callable[..., ZhipuMultiModal]
) -> Iterator[httpx.Client]:
    """A client of the served application."""
    app = service.build_app(emoji_index, connect(max_retries=0))
    with served(app) as url, httpx.Client(base_url=url, timeout=PATIENCE) as client:
        yield client


def events_of(text: str) -> list[tuple[str, object]]:
    """Return the names and data of server-sent events."""
    return [(name, json.loads(data)) for name, data in re.findall(r"event: (\w+)\ndata: (.*)\n\n", text)]


def found(response: httpx.Response) -> list[str]:
    """Return the ids that a search found."""
    assert response.status_code == 200, response.text
    return [result["id"] for result in response.json()]


def test_the_service_searches_by_words_by_an_image_and_by_both(client: httpx.Client, examples: list[Example]) -> None:
    apple = next(each for each in examples if each.caption == "红苹果")
    files = {"image": ("苹果.jpg", apple.image)}
    assert found(client.post("/search", data={"words": "红苹果"}))[0] == str(apple.number)
    assert found(client.post("/search", files=files))[0] == str(apple.number)
    assert found(client.post("/search", data={"words": "红苹果"}, files=files))[0] == str(apple.number)


def test_the_service_says_what_is_wrong_with_a_search(
    client: httpx.Client, service: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.post("/search").status_code == 422
    assert client.post("/search", data={"words": "  "}).json() == {"detail": "give words, an image, or both"}
    broken = client.post("/search", files={"image": ("a.jpg", b"no image at all")})
    assert (broken.status_code, "not an image" in broken.json()["detail"]) == (422, True)
    monkeypatch.setattr(service, "MAX_UPLOAD_BYTES", 10)
    assert client.post("/search", files={"image": ("a.jpg", b"0123456789a")}).status_code == 413


def test_the_service_streams_sources_answer_and_citations(client: httpx.Client) -> None:
    response = client.post("/ask", data={"question": "图里有消防车吗？"})
    assert response.headers["content-type"].startswith("text/event-stream")
    (first, sources), *pieces, (last, citations) = events_of(response.text)
    assert (first, last) == ("sources", "citations")
    assert isinstance(sources, list)
    assert sources[0]["caption"] == "消防车"
    assert {name for name, _ in pieces} == {"text"}
    assert "收到 3 张图片" in "".join(str(data) for _, data in pieces)
    assert citations == {f"图{number}": each["id"] for number, each in enumerate(sources, 1)}


@pytest.mark.parametrize("fault", [ErrorAnswer(401, "1000", "身份验证失败"), Cut(after=2)], ids=["refused", "cut off"])
def test_errors_of_the_model_are_events_without_the_key(
    client: httpx.Client, server: MockGLMServer, fault: Fault, key: str
) -> None:
    server.script(fault)
    name, message = events_of(client.post("/ask", data={"question": "有车吗？"}).text)[-1]
    assert name == "error"
    assert key not in str(message)


def test_the_service_searches_without_a_client_and_refuses_questions(
    service: ModuleType, emoji_index: ImageIndex
) -> None:
    with served(service.build_app(emoji_index, None)) as url, httpx.Client(base_url=url, timeout=PATIENCE) as client:
        assert found(client.post("/search", data={"words": "红苹果"}))
        refused = client.post("/ask", data={"question": "有车吗？"})
    assert (refused.status_code, "set ZHIPUAI_API_KEY" in refused.json()["detail"]) == (503, True)


def test_the_service_answers_others_while_it_waits_for_the_model(client: httpx.Client, server: MockGLMServer) -> None:
    released = threading.Event()
    server.script(Held(released))
    with ThreadPoolExecutor(1) as other:
        asked = other.submit(client.post, "/ask", data={"question": "有车吗？"})
        assert wait_until(lambda: bool(server.requests))
        assert client.get("/healthz").json() == {"images": 10}
        assert found(client.post("/search", data={"words": "红苹果"}))
        assert not asked.done()
        released.set()
        assert asked.result(PATIENCE).status_code == 200


def test_the_service_returns_images_by_their_ids_alone(client: httpx.Client) -> None:
    response = client.get("/images/1")
    assert response.headers["content-type"] == "image/jpeg"
    assert Image.open(BytesIO(response.content)).size == (128, 128)
    for node_id in ("0", "store/image.sqlite3", "%2e%2e/%2e%2e/etc/passwd"):
        assert client.get(f"/images/{node_id}").status_code == 404


@pytest.mark.usefixtures("service", "emoji_index")
@pytest.mark.parametrize(("key", "status"), [("id.secret", 200), ("", 503)], ids=["with a key", "without a key"])
def test_the_module_for_several_processes_makes_the_application(
    server: MockGLMServer, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, status: int
) -> None:
    page = (ROOT / "docs" / "en" / "operations" / "deployment.md").read_text(encoding="utf-8")
    [code] = [block.code for block in blocks_in(page) if block.title == "app.py"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("ZHIPUAI_API_KEY", key)
    monkeypatch.setenv("ZHIPUAI_BASE_URL", server.url)
    module: dict[str, Any] = {}
    exec(with_model(code, str(demo_folder / "model")), module)
    with served(module["app"]) as url:
        assert httpx.get(f"{url}/healthz").json() == {"images": 10}
        assert httpx.post(f"{url}/ask", data={"question": "有车吗？"}, timeout=PATIENCE).status_code == status
    module["index"].close()


# agent.py


@pytest.mark.usefixtures("ending_servers", "emoji_index")
def test_the_agent_searches_and_sees_what_it_found(
    load_script: Load,
    tmp_path: Path,
    demo_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = load_script(Path("examples/agent.py"))
    options = ["--store", tmp_path / "store", "--model", demo_folder / "model"]
    run(program, monkeypatch, *options, "有消防车吗？", "有柠檬吗？")
    shown = capsys.readouterr().out
    assert "search_images({'query': '有消防车吗？'}): ['10'," in shown
    assert "search_images({'query': '有柠檬吗？'}): ['9'," in shown
    assert shown.count("收到 3 张图片") == 2
    # Of the mock's answer, which repeats what the tool returned, only what it says of the images is shown.
    assert shown.count("（本地模拟服务，不是模型）问题：") == 2
    assert "工具结果" not in shown
    assert (
        program.without_tool_results("有，是消防车（图1）。\n工具结果：一辆") == "有，是消防车（图1）。\n工具结果：一辆"
    )
    assert program.MOCK == GREETING


# daily_sync.py


def test_the_daily_job_reports_what_changed_and_what_was_skipped(
    load_script: Load,
    photos: list[Path],
    demo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = load_script(Path("examples/daily_sync.py"))
    folder = tmp_path / "photos"
    folder.mkdir()
    for photo in photos[:4]:
        (folder / photo.name).write_bytes(photo.read_bytes())
    arguments = (folder, "--store", tmp_path / "store", "--model", demo_folder / "model")
    assert run(program, monkeypatch, *arguments) == program.UP_TO_DATE
    assert "4 images, 4 new, 0 unchanged, 0 removed" in capsys.readouterr().out
    (folder / photos[0].name).unlink()
    (folder / photos[4].name).write_bytes(photos[4].read_bytes())
    (folder / "broken.jpg").write_bytes(b"no image at all")
    assert run(program, monkeypatch, *arguments) == program.SKIPPED
    shown = capsys.readouterr().out
    assert "4 images, 1 new, 3 unchanged, 1 removed" in shown
    assert re.search(r"skipped \S*broken\.jpg: ", shown)


def test_the_daily_job_does_not_run_twice_at_once_and_reports_errors(
    load_script: Load,
    demo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = load_script(Path("examples/daily_sync.py"))
    arguments = (tmp_path / "nowhere", "--store", tmp_path / "store", "--model", demo_folder / "model")
    with FileLock(tmp_path / "store.lock"):
        assert run(program, monkeypatch, *arguments) == program.BUSY
    assert "another run is at work" in capsys.readouterr().err
    assert run(program, monkeypatch, *arguments) == program.FAILED
    assert "nowhere" in capsys.readouterr().err


# evaluate.py


def test_the_evaluation_compares_settings_and_lists_missed_questions(
    load_script: Load,
    emoji: Path,
    demo_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = load_script(Path("examples/evaluate.py"))
    monkeypatch.setattr(program, "DEPTH", 1)
    asked = [{"question": "红苹果", "image_ids": ["6"]}, {"question": "红苹果？", "image_ids": ["1"]}]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(map(json.dumps, asked)), encoding="utf-8")
    run(program, monkeypatch, "--data", emoji, "--questions", questions, "--model", demo_folder / "model")
    title, *rows = capsys.readouterr().out.splitlines()
    assert title.split()[:5] == ["setting", "R@1", "R@5", "R@10", "MRR@10"]
    assert [re.split(r"\s{2,}", row)[0] for row in rows] == ["images only", "images, hybrid", "with captions"]
    assert all(row.endswith("  红苹果？") for row in rows)
    assert re.match(r"images only +50\.0 ", rows[0])


def test_the_questions_of_the_evaluation_name_images_of_the_demo(load_script: Load, demo_folder: Path) -> None:
    program = load_script(Path("examples/evaluate.py"))
    questions = program.read_questions(program.EXAMPLES / "questions.jsonl")
    ids = {node.node_id for node in read_jsonl(demo_folder / "test.jsonl", id_prefix="")}
    assert len(questions.queries) == 20
    assert {image_id for question in questions.queries for image_id in question.image_ids} <= ids


# Extras


@pytest.mark.parametrize(
    ("name", "module", "command"),
    [
        ("fastapi_service", "fastapi", "pip install fastapi uvicorn python-multipart"),
        ("fastapi_service", "uvicorn", "pip install fastapi uvicorn python-multipart"),
        ("fastapi_service", "python_multipart", "pip install fastapi uvicorn python-multipart"),
        ("embed_on_ray", "ray", 'pip install "llama-index-mm-zhipu[ray]"'),
    ],
)
def test_programs_end_with_the_command_that_installs_what_they_lack(
    load_script: Load, name: str, module: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "llama_index_mm_zhipu.distributed", raising=False)
    with pytest.raises(SystemExit) as left:
        load_script(Path(f"examples/{name}.py"))
    assert isinstance(left.value.code, str)
    assert left.value.code.endswith(command)
    assert "\n" not in left.value.code


# README.md


def test_the_readme_lists_every_example() -> None:
    listed = set(re.findall(r"\]\(([^)]+)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8")))
    assert {file.name for file in EXAMPLES.iterdir() if file.suffix in (".py", ".ipynb", ".jsonl")} <= listed
