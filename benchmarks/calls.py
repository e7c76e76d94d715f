"""Count the functions of this package that one question and one image pass through.

    python benchmarks/calls.py                    # a table
    python benchmarks/calls.py --list             # and every call in order, indented by depth
    python benchmarks/calls.py --json calls.json

A call is an entry into a function that is defined in a file of ``llama_index_mm_zhipu``, in any thread. Not counted:

- lambdas, comprehensions, generator expressions, and the bodies of modules and classes;
- generators and coroutines that go on: their first entry counts;
- layers of the model: ``forward``, ``__torch_function__``, and all below them, below cn_clip, or below ``torch.nn``;
- what is in no file, such as methods that dataclasses generate;
- the mock server of the GLM API, which has a process of its own.

What libraries call back counts, such as Pillow reading from a stream of this package.

The demo's model runs in torch on the CPU. An index on disk holds ten images of the demo, JPEG files with captions.
Each operation is done once before it counts, with other words or another image, so nothing is loaded for the first
time. Operations:

- One question: ``engine.query(…)`` of ``as_query_engine(llm=…, similarity_top_k=1)``, in words that were not asked
  before; the image that it finds was sent before. "New image": it was not sent before.
- One image: ``build_index`` of one ``ImageNode`` with path and caption into a new folder, whose stores it makes. "Open
  index": ``index.insert_nodes`` of the node into the index of ten.

Columns: calls; files and packages (folders) with any; hops, which are calls of another file than that of the call
before, in order of time; and transactions: those on SQLite connections that were committed and either were begun as
immediate or exclusive or wrote something, and statements that wrote outside of one. Pragmas are no such statements.
"""

from __future__ import annotations

import argparse
import base64
import dis
import inspect
import sqlite3
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import llm_asking
from llama_index.core.schema import ImageNode
from measuring import write_figures

import llama_index_mm_zhipu
from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index, read_jsonl

DEMO = Path(__file__).parents[1] / "examples" / "demo"
PACKAGE = Path(llama_index_mm_zhipu.__file__).parent

_INDEXED = 10
_LAYERS = frozenset({"forward", "__torch_function__"})
_FOLDERS_OF_LAYERS = ("/cn_clip/", "/torch/nn/")
_SUSPENDED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
_WRITING = ("insert", "update", "delete", "replace", "create", "drop", "alter")


def main() -> None:
    """Count, print a table, and what else was asked for."""
    settings = _parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counted = _count(Path(folder))
    print(_table(counted))
    if settings.list:
        for name, trace in counted.items():
            print(f"\n{name}\n" + "\n".join(f"{'  ' * call.depth}{call.file}:{call.function}" for call in trace.calls))
    if settings.json is not None:
        write_figures(settings.json, _figures(counted))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print every call, indented by depth")
    parser.add_argument("--json", type=Path, help="file for the figures, with calls by file")
    return parser


# What is counted


@dataclass(frozen=True)
class Call:
    """An entry into a function.

    Attributes:
        file: Its path in the package.
        function: Its qualified name; the plain one before Python 3.11.
        depth: How many functions of the package were under way below it, in its thread.
    """

    file: str
    function: str
    depth: int


@dataclass
class Trace:
    """What happened during one operation.

    Attributes:
        calls: In order of time.
        transactions: That were written.
    """

    calls: list[Call] = field(default_factory=list)
    transactions: int = 0

    @property
    def files(self) -> Counter[str]:
        """Calls by file."""
        return Counter(call.file for call in self.calls)

    @property
    def packages(self) -> Counter[str]:
        """Calls by folder; ``.`` is the package itself."""
        return Counter(str(Path(call.file).parent) for call in self.calls)

    @property
    def hops(self) -> int:
        """How often a call is of another file than the call before."""
        return sum(before.file != after.file for before, after in zip(self.calls[:-1], self.calls[1:], strict=True))


class Recorder:
    """Follows calls and transactions while ``record`` is under way.

    ``install`` comes before any thread is started and any database is opened that is to be followed.
    """

    def __init__(self) -> None:
        self._trace: Trace | None = None
        self._prefix = f"{PACKAGE}/".replace("\\", "/")
        self._files: dict[CodeType, str | None] = {}
        self._starts: dict[CodeType, int] = {}

    def install(self) -> None:
        """Follow this thread, those that are started from now on, and connections that are opened from now on."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        connect = sqlite3.connect

        def followed(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **kwargs)
            connection.set_trace_callback(_Transactions(self._note_transaction))
            return connection

        sqlite3.connect = followed  # type: ignore[assignment]

    @contextmanager
    def record(self) -> Iterator[Trace]:
        """Record what happens inside."""
        trace = self._trace = Trace()
        try:
            yield trace
        finally:
            self._trace = None

    def _note_transaction(self) -> None:
        if self._trace is not None:
            self._trace.transactions += 1

    def _profile(self, frame: FrameType, event: str, _: Any) -> None:
        trace = self._trace
        if trace is None or event != "call":
            return
        code = frame.f_code
        file = self._file_of(code)
        if file is None or not self._is_first_entry(frame):
            return
        depth = 0
        around: FrameType | None = frame
        while around is not None:
            if _is_layer(around.f_code):
                return
            depth += around is not frame and self._file_of(around.f_code) is not None
            around = around.f_back
        trace.calls.append(Call(file, getattr(code, "co_qualname", code.co_name), depth))

    def _file_of(self, code: CodeType) -> str | None:
        """Return the path in the package of a function's file; None for what is no such function."""
        if code not in self._files:
            path = code.co_filename.replace("\\", "/")
            # Bodies of modules and classes have no optimized locals.
            is_function = bool(code.co_flags & inspect.CO_OPTIMIZED) and not code.co_name.startswith("<")
            is_ours = is_function and path.startswith(self._prefix)
            self._files[code] = path.removeprefix(self._prefix) if is_ours else None
        return self._files[code]

    def _is_first_entry(self, frame: FrameType) -> bool:
        code = frame.f_code
        if not code.co_flags & _SUSPENDED:
            return True
        if code not in self._starts:
            # Since Python 3.11 a generator has an instruction at each place where it is entered.
            resuming = (each.offset for each in dis.get_instructions(code) if each.opname == "RESUME")
            self._starts[code] = next(resuming, -1)
        return frame.f_lasti <= self._starts[code]


def _is_layer(code: CodeType) -> bool:
    if code.co_name in _LAYERS:
        return True
    path = code.co_filename.replace("\\", "/")
    return any(folder in path for folder in _FOLDERS_OF_LAYERS)


class _Transactions:
    """Hears the statements of one connection.

    Args:
        note: Called for each transaction that was written.
    """

    def __init__(self, note: Callable[[], None]) -> None:
        self._note = note
        self._is_open = False
        self._writes = False

    def __call__(self, statement: str) -> None:
        verb, *others = statement.lower().split(maxsplit=2) or [""]
        if verb == "begin":
            self._is_open = True
            self._writes = bool(others) and others[0] in ("immediate", "exclusive")
        elif verb in ("commit", "end"):
            if self._writes:
                self._note()
            self._is_open = self._writes = False
        elif verb == "rollback" and others[:1] != ["to"]:
            self._is_open = self._writes = False
        elif verb in _WRITING:
            if self._is_open:
                self._writes = True
            else:
                self._note()


# Operations


def _count(folder: Path) -> dict[str, Trace]:
    recorder = Recorder()
    recorder.install()
    nodes = _nodes(folder)
    embed_model = ChineseClipEmbedding(str(DEMO / "model"), backend="torch", device="cpu")
    index = build_index(nodes[:_INDEXED], embed_model=embed_model, persist_dir=folder / "index")
    counted: dict[str, Trace] = {}

    with llm_asking.mock_server() as server:
        llm = ZhipuMultiModal(api_key="benchmark.key", api_base=server.url)
        engine = index.as_query_engine(llm=llm, similarity_top_k=1)

        def ask(question: str) -> list[str]:
            return [source.node.node_id for source in engine.query(question).source_nodes]

        first, other = (node.text for node in nodes[:2])
        sent = ask(f"哪张图里有{first}？")
        with recorder.record() as counted["one question"]:
            found = ask(f"图里的{first}在哪里？")
        with recorder.record() as counted["one question, new image"]:
            found_other = ask(f"哪张图里有{other}？")
        if not sent == found == [nodes[0].node_id] or found_other != [nodes[1].node_id]:
            raise RuntimeError(f"the questions found {sent}, {found} and {found_other}, not the images that were meant")
        llm.close()

    one, another, *_ = nodes[_INDEXED:]
    build_index([one], embed_model=embed_model, persist_dir=folder / "one").close()
    with recorder.record() as counted["one image"]:
        built = build_index([another], embed_model=embed_model, persist_dir=folder / "another")
    built.close()
    index.insert_nodes([one])
    with recorder.record() as counted["one image, open index"]:
        index.insert_nodes([another])
    index.close()
    return counted


def _nodes(folder: Path) -> list[ImageNode]:
    """Write the first images of the demo into files, and return nodes of these with their captions."""
    nodes = []
    for number, node in enumerate(read_jsonl(DEMO / "test.jsonl")[: _INDEXED + 2]):
        path = folder / f"{number}.jpg"
        path.write_bytes(base64.b64decode(node.image or ""))
        nodes.append(ImageNode(id_=path.name, image_path=str(path), text=node.text))
    return nodes


# What is shown


def _table(counted: dict[str, Trace]) -> str:
    lines = ["| operation | calls | files | packages | hops | transactions |", "|---|---|---|---|---|---|"]
    lines += [f"| {name} | {' | '.join(map(str, _row(trace)))} |" for name, trace in counted.items()]
    return "\n".join(lines)


def _row(trace: Trace) -> Sequence[int]:
    return len(trace.calls), len(trace.files), len(trace.packages), trace.hops, trace.transactions


def _figures(counted: dict[str, Trace]) -> dict[str, Any]:
    names = ("calls", "files", "packages", "hops", "transactions")
    return {
        name: {
            **dict(zip(names, _row(trace), strict=True)),
            "calls_by_file": dict(sorted(trace.files.items())),
            "calls_by_package": dict(sorted(trace.packages.items())),
        }
        for name, trace in counted.items()
    }


if __name__ == "__main__":
    main()
