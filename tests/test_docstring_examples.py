"""Examples in docstrings print what they show, and every public name has one.

They run in the folder that ``docstring_folder.py`` makes. An example may use the names that ``llama_index_mm_zhipu``
exports and, without making them, ``embed_model`` (the demo model), ``nodes`` (the images of the folder, with captions),
``index`` (an index of these) and ``llm``. It imports everything else. Examples of names that are not public may use
what their module imports.
"""

from __future__ import annotations

import ast
import doctest
import re
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from inspect import cleandoc
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import generate
import pytest
from blocks import with_model
from docstring_folder import docstring_folder
from guide_folder import MODEL
from llama_index.core.schema import ImageNode

import llama_index_mm_zhipu
from llama_index_mm_zhipu import ChineseClipEmbedding, ZhipuMultiModal, build_index, embed_nodes, read_folder
from llama_index_mm_zhipu.index.multimodal import ImageIndex

PACKAGE = Path(llama_index_mm_zhipu.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

SLOW = {
    "display.plots": "matplotlib looks for fonts",
    "distributed": "starts Ray",
    "embedding.backends.BackendError": "imports torch",
    "embedding.backends.PrecisionReport": "loads the model in torch",
    "embedding.chinese_clip.embedding.ChineseClipEmbedding.check_precision": "loads the model in torch",
    "embedding.chinese_clip.embedding.ChineseClipEmbedding.warmup": "loads the model in torch",
    "ingestion.ocr_engines.RapidOcrEngine": "loads its models",
    "mcp.server": "imports the package mcp",
    "query.mcp_tools": "imports the package mcp",
    "readers.video": "decodes a video",
    "stores.external": "imports Qdrant's client",
    "testing.checkpoints": "writes a model, and loads it in torch",
}
"""Modules and names whose examples take seconds, with the reason."""

QUICK = ("embedding", "vector_store", "index", "query", "llm")
"""Parts whose other examples run in ``make test``; those of the other parts are left to the integration tests."""

PUBLIC = {
    f"{module}.{name}".removeprefix(f"{PACKAGE.name}.")
    for modules in generate.PAGES.values()
    for module, names in modules.items()
    for name in names
}

MAIN_CLASSES = (
    "embedding.chinese_clip.embedding.ChineseClipEmbedding",
    "vector_store.store.FaissMultiModalVectorStore",
    "vector_store.durable.DurableStore",
    "llm.llm.ZhipuMultiModal",
    "llm.layout_parsing.LayoutParser",
    "index.multimodal.ImageIndex",
    "query.retriever.ImageRetriever",
    "query.engine.ImageQueryEngine",
    "query.chat.ImageContextChatEngine",
    "readers.base.ImageReader",
    "readers.tsv_datasets.TsvReader",
    "evaluation.dataset.RetrievalDataset",
    "service.image_service.ImageService",
    "testing.mock_server.MockGLMServer",
)
"""Classes of which each public method has an example, too; among them bases of public classes."""

NOT_CALLED = {
    "class_name": "LlamaIndex calls it",
    "build_index_from_nodes": "LlamaIndex calls it",
}
"""Public methods that users do not call."""


class Docstring(NamedTuple):
    """A docstring of the package.

    Attributes:
        name: What it documents: module without the package, and name.
        module: The module alone.
        file: File of the module.
        line: Line of the file.
        text: The docstring.
        is_method: Whether it documents a method that users call.
    """

    name: str
    module: str
    file: Path
    line: int
    text: str
    is_method: bool


def docstrings(file: Path) -> Iterator[Docstring]:
    """Yield the docstrings of a module: its own, and those of classes, functions and variables."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    for name, expression, is_method in _documented(ast.parse(file.read_text(encoding="utf-8")), module, in_class=False):
        yield Docstring(name, module, file, expression.lineno, cleandoc(expression.value), is_method)


def _documented(parent: Any, name: str, *, in_class: bool) -> Iterator[tuple[str, Any, bool]]:
    """Yield name and docstring of a part of a module, and of all that is defined in it."""
    if parent.body and (text := _string(parent.body[0])):
        yield name, text, in_class and _is_called(parent)
    for statement, follower in pairwise([*parent.body, None]):
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from _documented(statement, f"{name}.{statement.name}", in_class=isinstance(parent, ast.ClassDef))
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and (text := _string(follower)):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            yield f"{name}.{ast.unparse(target)}", text, False


def _string(statement: ast.stmt | None) -> ast.Constant | None:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def _is_called(definition: ast.AST) -> bool:
    """Whether users call a method: it is public, no property, and not the async form of another one."""
    if not isinstance(definition, ast.FunctionDef) or definition.name.startswith("_"):
        return False
    decorators = [ast.unparse(decorator) for decorator in definition.decorator_list]
    return definition.name not in NOT_CALLED and not any("property" in decorator for decorator in decorators)


ALL = [docstring for file in sorted(PACKAGE.rglob("*.py")) for docstring in docstrings(file)]
WITH_EXAMPLES = [docstring for docstring in ALL if ">>> " in docstring.text]


class Runner:
    """Runs examples in a folder, the current directory. Each docstring has an index and a client of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._embed_model = ChineseClipEmbedding(str(MODEL))
        self._embedded = embed_nodes(self._nodes(), self._embed_model)

    def failures(self, docstring: Docstring) -> str:
        """Run the examples of a docstring, and return a report of those that fail, empty if none does."""
        report = StringIO()
        with closing(ZhipuMultiModal()) as llm, self._without_new_files():
            names = self._names(docstring, llm)
            parser = doctest.DocTestParser()
            test = parser.get_doctest(docstring.text, names, docstring.name, str(docstring.file), docstring.line - 1)
            for example in test.examples:
                example.source = with_model(example.source, str(MODEL))
            doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.write)
        return report.getvalue()

    @contextmanager
    def _without_new_files(self) -> Iterator[None]:
        """Remove what the examples write into the folder, so that the next ones do not find it."""
        before = set(self._folder.iterdir())
        yield
        for path in set(self._folder.iterdir()) - before:
            # Ray keeps a token in the home directory for the whole process.
            if path.name.startswith("."):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _names(self, docstring: Docstring, llm: ZhipuMultiModal) -> dict[str, Any]:
        """Return what the examples of a docstring can use. Many do not use an index, which takes milliseconds."""
        if is_public(docstring):
            names = {name: getattr(llama_index_mm_zhipu, name) for name in llama_index_mm_zhipu.__all__}
        else:
            names = dict(vars(import_module(f"{PACKAGE.name}.{docstring.module}")))
        names |= {"__name__": "__main__", "embed_model": self._embed_model, "llm": llm}
        if re.search(r"\bnodes\b", docstring.text):
            names["nodes"] = self._nodes()
        if re.search(r"\bindex\b", docstring.text):
            names["index"] = self._index()
        return names

    def _index(self) -> ImageIndex:
        copies = [node.model_copy(deep=True) for node in self._embedded]
        return build_index(copies, self._embed_model, caption_weight=self._embedded.caption_weight)

    def _nodes(self) -> list[ImageNode]:
        return read_folder("images", captions="goods.csv", name_column="图片", caption_column="标题")


def is_public(docstring: Docstring) -> bool:
    """Return whether a docstring documents a public name or a member of one, which may be inherited."""
    return any(f"{docstring.name}.".startswith(f"{name}.") for name in PUBLIC.union(MAIN_CLASSES))


def is_slow(docstring: Docstring) -> bool:
    """Return whether the examples of a docstring are left to the integration tests."""
    if docstring.name.partition(".")[0] not in QUICK:
        return True
    return any(f"{docstring.name}.".startswith(f"{name}.") for name in SLOW)


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with docstring_folder() as folder:
        yield Runner(folder)


def _marked(docstring: Docstring) -> Any:
    return pytest.param(docstring, id=docstring.name, marks=[pytest.mark.integration] if is_slow(docstring) else [])


@pytest.mark.parametrize("docstring", [_marked(docstring) for docstring in WITH_EXAMPLES])
def test_examples_print_what_they_show(docstring: Docstring, runner: Runner) -> None:
    report = runner.failures(docstring)
    assert not report, report


def test_every_public_name_has_an_example() -> None:
    assert sorted(PUBLIC - {docstring.name for docstring in WITH_EXAMPLES}) == []


def test_every_method_of_the_main_classes_has_an_example() -> None:
    methods = {each.name for each in ALL if each.is_method and each.name.rpartition(".")[0] in MAIN_CLASSES}
    assert sorted(methods - {docstring.name for docstring in WITH_EXAMPLES}) == []
