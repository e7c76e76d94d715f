"""The private names of llama-index-core that the package uses are all in one table, and core still has them.

Core may rename or remove a private name in any release. The table says where the package depends on one and why. The
tests compare it with the source of the package and with the installed core, and report every difference by name.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import llama_index.core
import pytest
from llama_index.core.base.base_retriever import BaseRetriever

import llama_index_mm_zhipu

PACKAGE = Path(llama_index_mm_zhipu.__file__).parent
CORE = Path(llama_index.core.__file__).parent


ABSTRACT = "extension point: an abstract method"
OPTIONAL = "extension point: a method with a default that subclasses may replace"
EXTENSION_POINTS = (ABSTRACT, OPTIONAL)


class CoreName(NamedTuple):
    """A private name of core that the package depends on.

    Attributes:
        owner: Class that defines the name, by its path below ``llama_index.core``.
        name: The name.
        files: Files of the package that use or override it, separated by spaces.
        why: What the package needs it for. Names that core asks subclasses to implement are extension points; they are
            private by spelling alone.
    """

    owner: str
    name: str
    files: str
    why: str

    @property
    def uses(self) -> set[Use]:
        return {Use(self.name, file) for file in self.files.split()}


class Use(NamedTuple):
    """A private name of core in a file of the package."""

    name: str
    file: str


_EMBEDDING = "base.embeddings.base.BaseEmbedding"
_IMAGE_EMBEDDING = "embeddings.multi_modal_base.MultiModalEmbedding"
_TOOL_LLM = "llms.function_calling.FunctionCallingLLM"
_RETRIEVER = "base.base_retriever.BaseRetriever"
_IMAGE_RETRIEVER = "image_retriever.BaseImageRetriever"
_POSTPROCESSOR = "postprocessor.types.BaseNodePostprocessor"
_QUERY_ENGINE = "base.base_query_engine.BaseQueryEngine"
_SETTINGS = "settings._Settings"
_SYNTHESIZER = "response_synthesizers.base.BaseSynthesizer"
_SIMPLE_CHAT = "chat_engine.simple.SimpleChatEngine"
_QUESTION_CHAT = "chat_engine.condense_question.CondenseQuestionChatEngine"

_CLIP_FILE = "embedding/chinese_clip/embedding.py"
_RETRIEVER_FILE = "query/retriever.py"

TABLE = [
    # Extension points
    CoreName(_EMBEDDING, "_get_query_embedding", _CLIP_FILE, ABSTRACT),
    CoreName(_EMBEDDING, "_aget_query_embedding", _CLIP_FILE, ABSTRACT),
    CoreName(_EMBEDDING, "_get_text_embedding", _CLIP_FILE, ABSTRACT),
    CoreName(_EMBEDDING, "_aget_text_embedding", _CLIP_FILE, OPTIONAL),
    CoreName(_EMBEDDING, "_get_text_embeddings", _CLIP_FILE, OPTIONAL),
    CoreName(_EMBEDDING, "_aget_text_embeddings", _CLIP_FILE, OPTIONAL),
    CoreName(_IMAGE_EMBEDDING, "_get_image_embedding", _CLIP_FILE, ABSTRACT),
    CoreName(_IMAGE_EMBEDDING, "_aget_image_embedding", _CLIP_FILE, ABSTRACT),
    CoreName(_TOOL_LLM, "_prepare_chat_with_tools", "llm/llm.py", ABSTRACT),
    CoreName(_TOOL_LLM, "_validate_chat_with_tools_response", "llm/llm.py", OPTIONAL),
    CoreName(_RETRIEVER, "_retrieve", _RETRIEVER_FILE, ABSTRACT),
    CoreName(_RETRIEVER, "_aretrieve", _RETRIEVER_FILE, OPTIONAL),
    CoreName(_IMAGE_RETRIEVER, "_text_to_image_retrieve", _RETRIEVER_FILE, ABSTRACT),
    CoreName(_IMAGE_RETRIEVER, "_atext_to_image_retrieve", _RETRIEVER_FILE, ABSTRACT),
    CoreName(_IMAGE_RETRIEVER, "_image_to_image_retrieve", _RETRIEVER_FILE, ABSTRACT),
    CoreName(_IMAGE_RETRIEVER, "_aimage_to_image_retrieve", _RETRIEVER_FILE, ABSTRACT),
    CoreName(_POSTPROCESSOR, "_postprocess_nodes", "query/labels.py query/rerank.py", ABSTRACT),
    CoreName(_POSTPROCESSOR, "_apostprocess_nodes", "query/rerank.py", OPTIONAL),
    CoreName(_QUERY_ENGINE, "_query", "query/engine.py", ABSTRACT),
    CoreName(_QUERY_ENGINE, "_aquery", "query/engine.py", ABSTRACT),
    # Settings. The public properties create models of OpenAI if the user has set none.
    CoreName(_SETTINGS, "_llm", "llm/llm.py", "the LLM that the user has set, or None"),
    CoreName(
        _SETTINGS,
        "_embed_model",
        "index/build.py index/multimodal.py index/settings.py",
        "the model that the user has set, or None",
    ),
    CoreName(_SETTINGS, "_chat_prompt_helper", "query/synthesizer.py", "the helper that the user has set, or None"),
    # Prompts
    CoreName("prompts.base.BasePromptTemplate", "_map_all_vars", "prompts/templates.py", "the variables of a template"),
    # Indexes and engines
    CoreName(
        "indices.vector_store.base.VectorStoreIndex", "_embed_model", _RETRIEVER_FILE, "the model of an index's texts"
    ),
    CoreName(_SYNTHESIZER, "_multimodal", "query/engine.py", "refuses a synthesizer that sends no images"),
    CoreName(_SYNTHESIZER, "_streaming", "query/engine.py", "whether answers are streamed"),
    CoreName(_SYNTHESIZER, "_llm", "query/engine.py", "refuses a question that is too long for the LLM"),
    CoreName(_SIMPLE_CHAT, "_llm", "query/simple_chat.py", "refuses a message that is too long for the LLM"),
    CoreName(_SIMPLE_CHAT, "_memory", "query/chat_memory.py", "keeps images in the history"),
    CoreName(_QUESTION_CHAT, "_llm", "query/simple_chat.py", "refuses a message that is too long for the LLM"),
    CoreName(_QUESTION_CHAT, "_memory", "query/chat_memory.py", "keeps images in the history"),
    CoreName(_QUESTION_CHAT, "_condense_question", "query/simple_chat.py", "keeps the images of the message"),
    CoreName(_QUESTION_CHAT, "_acondense_question", "query/simple_chat.py", "keeps the images of the message"),
]


_OF_NAMED_TUPLES = ("_replace", "_asdict", "_fields", "_make")
"""Public by Python's documentation, in spite of their spelling."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


# What core defines


def assigned_names(tree: ast.AST) -> set[str]:
    """Return the names of functions, of fields of classes, and of attributes that are set on ``self`` or ``cls``."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            names.add(node.attr)
        elif isinstance(node, (ast.Module, ast.ClassDef)):
            targets = [part for part in node.body if isinstance(part, (ast.Assign, ast.AnnAssign))]
            names |= {
                name.id
                for part in targets
                for target in (part.targets if isinstance(part, ast.Assign) else [part.target])
                for name in ast.walk(target)
                if isinstance(name, ast.Name)
            }
    return names


def is_self(node: ast.AST) -> bool:
    """Whether an expression is ``self``, ``cls`` or ``super()``."""
    node = node.func if isinstance(node, ast.Call) else node
    return isinstance(node, ast.Name) and node.id in ("self", "cls", "super")


@cache
def syntax_tree(file: str) -> ast.Module:
    return ast.parse(Path(file).read_text(encoding="utf-8"))


@cache
def private_names_of(owner: type) -> frozenset[str]:
    """Return the private names that a class itself defines, without those of its base classes."""
    tree = syntax_tree(inspect.getfile(owner))
    (source,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner.__name__]
    return frozenset(filter(is_private, set(vars(owner)) | assigned_names(source)))


@cache
def core_classes_of(owner: type) -> tuple[type, ...]:
    return tuple(base for base in owner.__mro__ if base.__module__.startswith("llama_index.core"))


@cache
def core_source() -> str:
    return "\n".join(file.read_text(encoding="utf-8") for file in CORE.rglob("*.py"))


@cache
def is_defined_in_core(name: str) -> bool:
    """Whether any class or module of core defines a name."""
    return re.search(rf"def {name}\b|self\.{name}\b|^\s*{name}\b\s*[:=]", core_source(), re.MULTILINE) is not None


# What the package uses


def modules() -> Iterator[tuple[str, ModuleType, ast.Module]]:
    """Yield the path of each module in the package, the module and its syntax tree."""
    for file in sorted(PACKAGE.rglob("*.py")):
        path = file.relative_to(PACKAGE)
        dotted = ".".join([PACKAGE.name, *path.with_suffix("").parts]).removesuffix(".__init__")
        yield path.as_posix(), importlib.import_module(dotted), syntax_tree(str(file))


@cache
def package_classes() -> tuple[type, ...]:
    found = {each for _, module, _ in modules() for each in vars(module).values() if inspect.isclass(each)}
    return tuple(each for each in found if each.__module__.startswith(PACKAGE.name))


@cache
def inherited_from_core(owner: type) -> frozenset[str]:
    """Return core's private names that a class has: its own, and those of the classes that it is mixed into."""
    heirs = [owner, *(each for each in package_classes() if owner in each.__mro__)]
    return frozenset(name for heir in heirs for base in core_classes_of(heir) for name in private_names_of(base))


def uses_of_core() -> set[Use]:
    """Return every private name of core that the package imports, reads, sets, calls or overrides."""
    return {Use(name, path) for path, module, tree in modules() for name in uses_in(tree, module)}


def uses_in(tree: ast.Module, module: ModuleType) -> Iterator[str]:
    own = {name for name in assigned_names(tree) if is_private(name)}
    classes = {node: getattr(module, node.name, None) for node in tree.body if isinstance(node, ast.ClassDef)}
    for node, owner in classes.items():
        if owner is not None:
            attributes = {name for name, receiver in private_attributes(node) if is_self(receiver)}
            yield from (assigned_names(node) | attributes) & inherited_from_core(owner)
    for name, receiver in private_attributes(tree):
        # A variable may hold another instance of a class in this module; an attribute rather holds something else.
        is_own = name in own and isinstance(receiver, ast.Name)
        if not is_self(receiver) and not is_own and name not in _OF_NAMED_TUPLES and is_defined_in_core(name):
            yield name
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("llama_index."):
            yield from filter(is_private, [*(node.module or "").split("."), *(each.name for each in node.names)])


def private_attributes(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield each private attribute with the expression that has it, ``getattr`` and its kind included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.attr, node.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr", "delattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)):
                yield str(name.value), node.args[0]


# The checks


def test_every_private_name_of_core_that_the_package_uses_is_in_the_table() -> None:
    used, listed = uses_of_core(), {use for row in TABLE for use in row.uses}
    differences = [
        *(f"{use.file} uses {use.name}: take a public name, or add a row to the table" for use in used - listed),
        *(f"{use.file} does not use {use.name}: remove it from the table" for use in listed - used),
    ]
    assert not differences, "\n".join(sorted(differences))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.owner.rpartition('.')[2]}.{row.name}")
def test_core_still_has_the_name(row: CoreName) -> None:
    module, _, class_name = row.owner.rpartition(".")
    owner = getattr(importlib.import_module(f"llama_index.core.{module}"), class_name, None)
    assert owner is not None, f"core has moved {row.owner}"
    assert row.name in private_names_of(owner), f"core has moved {row.owner}.{row.name}, used in {row.files}"
    if row.why in EXTENSION_POINTS:
        is_abstract = getattr(getattr(owner, row.name), "__isabstractmethod__", False)
        assert is_abstract == (row.why == ABSTRACT)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from llama_index.core.settings import _Settings", ["_Settings"]),
        ("Settings._llm", ["_llm"]),
        ("getattr(engine, '_retriever', None)", ["_retriever"]),
        ("text._replace(words=())", []),
        ("self._llm", []),
        ("self._client = None\ncopied._client = self._client", []),
    ],
)
def test_the_scan_finds_imports_and_attributes(source: str, found: list[str]) -> None:
    assert list(uses_in(ast.parse(source), ModuleType("module"))) == found


def test_the_scan_finds_what_a_class_inherits_and_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
class Mixin:
    def _retrieve(self, query):
        return super()._aretrieve(query, self._verbose, self._own)
"""
    mixin = type("Mixin", (), {})
    module = ModuleType("module")
    vars(module)["Mixin"] = mixin
    monkeypatch.setitem(globals(), "package_classes", lambda: [type("Retriever", (mixin, BaseRetriever), {})])
    assert set(uses_in(ast.parse(source), module)) == {"_retrieve", "_aretrieve", "_verbose"}
