"""The command as a program: terminals, pipes, Ctrl-C, completion in the shell, and extras that are not installed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image
from programs import start_program
from runs import Command
from waiting import PATIENCE

from llama_index_mm_zhipu.store_file import read_store_file

if sys.platform != "win32":
    from terminals import Terminal

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform == "win32", reason="terminals, pipes and signals are others there"),
]

MMZHIPU = [sys.executable, "-m", "llama_index_mm_zhipu"]
BOLD = "\033[1m"


def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a program."""
    return subprocess.run(
        [*MMZHIPU, *map(str, arguments)], capture_output=True, text=True, env={**os.environ, **variables}
    )


@pytest.fixture
def terminal_env(surroundings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the size of terminals to themselves."""
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("LANG", "C.UTF-8")


# Index, search and chat run in one process, which loads the libraries once.
SESSION = """
import sys
from llama_index_mm_zhipu.cli.main import main
photos, model = sys.argv[1:]
assert main(["index", photos, "--model", model, "--device", "cpu"]) == 0
print("INDEXED")
assert main(["search", "a hat", "-k", "1", "--show"]) == 0
print("SEARCHED")
sys.exit(main(["chat", "--mock", "--lang", "zh"]))
"""


def test_a_session_in_a_terminal(terminal_env: None, photos: list[Path], demo_folder: Path, surroundings: Path) -> None:
    def start(descriptor: int) -> subprocess.Popen[str]:
        streams = {"stdin": descriptor, "stdout": descriptor, "stderr": descriptor}
        return start_program(SESSION, photos[0].parent, demo_folder / "model", **streams)

    terminal = Terminal(start)
    index = terminal.wait_for("INDEXED")
    assert re.search(r"\rEmbedding images: 100%\|█+\| 10/10 ", index)
    assert "10 images in mmzhipu_store: 10 new" in index
    search = terminal.wait_for("SEARCHED")
    assert f"{BOLD}Picture 1\033[0m  similarity 0." in search
    # The lower and the upper half of each character have a colour of their own.
    assert search.count("▀") > 100
    assert "Traceback" not in search
    assert "请输入问题。/image 路径 为下一个问题附上图片" in terminal.wait_for("> ")
    terminal.type("帽子呢？\n")
    terminal.wait_for("引用的图片：")
    assert f"{BOLD}图1\033[0m" in terminal.wait_for("> ")
    terminal.type("/imgae\n")
    assert "错误：没有命令 /imgae。" in terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.wait() == 0
    assert "Traceback" not in terminal.shown


def test_colours_are_shown_in_a_terminal_that_has_them(terminal_env: None, store: Path) -> None:
    def shown(**variables: str) -> str:
        def start(descriptor: int) -> subprocess.Popen[str]:
            environment = {**os.environ, **variables}
            streams = {"stdin": descriptor, "stdout": descriptor, "stderr": descriptor}
            return subprocess.Popen([*MMZHIPU, "info", "--store", str(store)], text=True, env=environment, **streams)

        terminal = Terminal(start)
        assert terminal.wait() == 0
        return terminal.shown

    assert shown().startswith(f"{BOLD}Index\033[0m  ")
    for plain in (shown(NO_COLOR="1"), shown(TERM="dumb"), run("info", "--store", store).stdout):
        assert plain.startswith("Index  ")
        assert "\033" not in plain


def test_a_reader_that_ends_early_is_no_error(store: Path) -> None:
    for redirected in ({"stderr": subprocess.PIPE}, {"stderr": subprocess.STDOUT}):
        reader, writer = os.pipe()
        os.close(reader)
        command = [*MMZHIPU, "info", "--store", str(store)]
        done = subprocess.run(command, stdout=writer, text=True, **redirected)  # type: ignore[call-overload]
        os.close(writer)
        assert done.returncode == 141
        assert not done.stderr


@pytest.mark.parametrize(("redirection", "shown"), [(">&-", ""), ("2>&-", "10\n"), ("<&-", "10\n")])
def test_streams_that_are_closed_are_no_error(store: Path, redirection: str, shown: str) -> None:
    program = shlex.join([*MMZHIPU, "info", "--json", "--store", str(store)])
    images = shlex.join(
        [sys.executable, "-c", "import json, sys; [print(json.loads(line)['images']) for line in sys.stdin]"]
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; ({program} {redirection}) | {images}"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, "")


STALLED = """
import os, signal, sys, threading
from llama_index_mm_zhipu.cli.main import main
from llama_index_mm_zhipu.testing import MockGLMServer, Stall

class Output:
    def __init__(self, stream): self.stream = stream
    def __getattr__(self, name): return getattr(self.stream, name)
    def write(self, text):
        # The first piece of the answer has come, and the next one will not.
        if "问题" in text: os.kill(os.getpid(), signal.SIGINT)
        return self.stream.write(text)

with MockGLMServer() as server:
    os.environ |= {"ZHIPUAI_API_KEY": "id.secret", "ZHIPUAI_BASE_URL": server.url}
    sys.stdout = Output(sys.stdout)
    for arguments in (["ask", "什么"], ["chat"]):
        server.script(Stall(after=3))
        print(int(main([*arguments, "--store", sys.argv[1]])), file=sys.stderr)
"""


def test_ctrl_c_does_not_wait_for_the_rest_of_an_answer(surroundings: Path, store: Path) -> None:
    program = start_program(STALLED, store, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    # Without an end of the input, the chat ends with Ctrl-C alone.
    assert program.stdin is not None
    program.stdin.write("你好\n")
    program.stdin.flush()
    code = program.wait(PATIENCE)
    assert program.stderr is not None
    lines = [line for line in program.stderr.read().splitlines() if line and not line.startswith("Loading the model ")]
    assert (lines, code) == (["interrupted", "130"] * 2, 0)
    program.communicate()


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from llama_index_mm_zhipu.cli.main import main
from llama_index_mm_zhipu.store_file import read_store_file

arguments, file = sys.argv[1:], Path("mmzhipu_store/image.sqlite3")

def press_ctrl_c_after_the_first_batch(event, values):
    global arguments
    if event == "open" and str(values[0]).endswith(".png") and arguments and file.exists():
        try:
            is_begun = read_store_file(file).nodes > 0
        except ValueError:
            # It is being created.
            return
        if is_begun:
            arguments = []
            os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(press_ctrl_c_after_the_first_batch)
sys.exit(main(arguments))
"""


def test_ctrl_c_keeps_what_is_done_and_the_same_command_continues(
    mmzhipu: Command, demo_model: Path, surroundings: Path
) -> None:
    (surroundings / "many").mkdir()
    for number in range(700):
        Image.new("RGB", (8, 8), (number % 256, number // 256, 99)).save(surroundings / "many" / f"{number:03}.png")
    arguments = ("index", "many", "--model", demo_model, "--device", "cpu")
    program = start_program(INTERRUPTED, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = program.communicate()
    assert (program.returncode, out) == (130, "")
    assert err.endswith("\ninterrupted; what is done is stored, and the same command continues\n")
    assert "Traceback" not in err
    kept = read_store_file(surroundings / "mmzhipu_store" / "image.sqlite3").nodes
    assert 256 <= kept < 700
    run = mmzhipu(*arguments)
    assert run.out.startswith(f"700 images in mmzhipu_store: {700 - kept} new, {kept} unchanged, 0 removed, ")


WITHOUT_EXTRAS = """
import sys
for name in ("av", "mcp", "pyarrow", "pypdfium2", "rapidocr", "textual_image"):
    sys.modules[name] = None
from llama_index_mm_zhipu.cli.main import main
photos, pages, model, store = sys.argv[1:]
sys.stdout.isatty = lambda: True
for arguments in (
    ["export", "out", "--store", store],
    ["import", "out"],
    ["mcp", "--store", store],
    ["index", pages + "/form.pdf", "--model", model],
    ["index", "film.mp4", "--model", model],
    ["index", photos, "--ocr", "--model", model],
    ["index", pages, photos, "--model", model],
):
    print(int(main(arguments)), file=sys.stderr)
"""


def test_missing_extras_are_named_with_the_command_that_installs_them(
    surroundings: Path, photos: list[Path], demo_folder: Path, store: Path
) -> None:
    (surroundings / "film.mp4").write_bytes(b"film")
    (surroundings / "out" / "images").mkdir(parents=True)
    (surroundings / "out" / "images" / "manifest.json").write_text("{}")
    pages = photos[0].parents[1] / "pages"
    program = start_program(
        WITHOUT_EXTRAS, photos[0].parent, pages, demo_folder / "model", store, stderr=subprocess.PIPE, stdout=-1
    )
    out, err = program.communicate()
    lines = [line for line in err.splitlines() if not line.startswith("Loading the model ")]
    assert program.returncode == 0, err
    for name in ("parquet", "parquet", None, "pages", "video", "ocr"):
        error, status = lines.pop(0), lines.pop(0)
        expected = f'pip install "llama-index-mm-zhipu[{name}]"' if name else 'pip install "mcp>=2,<3" cryptography'
        assert status == "2"
        assert error.startswith("error: ")
        assert expected in error
    # Files that need an extra do not keep the images beside them from being indexed.
    assert lines.pop() == "0"
    assert lines.pop(0).startswith("left out ")
    for name in ("form.pdf", "locked.pdf", "slides.pptx"):
        assert any(name in line and "llama-index-mm-zhipu[pages]" in line for line in lines), lines
    assert out.startswith("10 images in mmzhipu_store: 10 new")


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("mmzhipu sea", {"search"}),
        ("mmzhipu ex", {"export"}),
        ("mmzhipu search --js", {"--json"}),
        ("mmzhipu search --mode ", {"default", "hybrid", "text_search", "mmr"}),
        ("mmzhipu --lang ", {"zh", "en"}),
        ("mmzhipu evaluate m", {"muge"}),
    ],
)
def test_shells_complete_commands_options_and_values(tmp_path: Path, line: str, completions: set[str]) -> None:
    file = tmp_path / "completions"
    variables: Mapping[str, str] = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SHELL": "bash",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(file),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
    }
    done = run(**variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {each.strip() for each in file.read_text().split("\n")} == completions
