"""Write the pages of error messages, docs/zh/errors.md and docs/en/errors.md, from the source code.

Run with ``make docs``; a test compares the pages with what this writes. Whoever searches the site for the words of an
error finds its class, its part of the package, and the words around the values that differ each time, which are shown
as ``…``.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

from llama_index_mm_zhipu.cli.wording.chinese import CHINESE
from llama_index_mm_zhipu.cli.wording.english import ENGLISH

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "llama_index_mm_zhipu"
PAGES = {"zh": DOCS / "zh" / "errors.md", "en": DOCS / "en" / "errors.md"}

INTRODUCTIONS = {
    "zh": """# 报错信息大全

这里列出本包的全部报错，按所在的部分和错误类排列，`…` 代表每次不同的内容（文件名、节点 id 等）。
用站内搜索时，只粘贴报错中不变的几个词，不要粘贴路径、名称和数值，也不必粘贴整句。
报错本身会说明出了什么事、涉及哪个文件或节点、该怎么办；常见报错的原因和处理办法，
见[常见问题](troubleshooting.md)。命令行 `mmzhipu` 还会用中文说明常见的错误。

智谱接口返回的错误码另有一张[表](guides/llm.md#错误)。
""",
    "en": """# All error messages

These are all errors of this package, by part and by class; `…` stands for what differs each time, such as names of
files, ids of nodes and numbers. In the search of this site, paste some words of an error that do not differ, without
paths, names and numbers. Each error says what happened, to which file or node, and what to do; [Questions and
problems](troubleshooting.md) explains the frequent ones.

The codes that Zhipu's service returns have a [table](guides/llm.md#errors) of their own.
""",
}

PARTS = {
    "embedding": ("嵌入模型", "Embedding"),
    "vector_store": ("向量库", "Vector store"),
    "stores": ("其他向量库与导入导出", "Other vector stores, export and import"),
    "llm": ("GLM 模型", "GLM models"),
    "images": ("图片", "Images"),
    "index": ("索引", "Index"),
    "query": ("检索与回答", "Retrieval and answers"),
    "prompts": ("提示词", "Prompts"),
    "ingestion": ("图片描述与文字识别", "Captions and text recognition"),
    "readers": ("读取器", "Readers"),
    "display": ("图与画廊", "Plots and galleries"),
    "evaluation": ("评测", "Evaluation"),
    "distributed": ("多进程与多机", "Many processes or machines"),
    "service": ("命令、网页与 MCP 共用的服务", "The service behind the command, the page and MCP"),
    "server": ("网页与 HTTP 接口", "The page and its HTTP API"),
    "mcp": ("MCP 服务", "MCP server"),
    "cli": ("命令行", "The command"),
    "testing": ("测试工具", "Tools for tests"),
    "": ("通用", "General"),
}
"""Titles of the package's folders in both languages, in the order of the pages."""

COMMAND = {"zh": ("命令行的提示", CHINESE), "en": ("Messages of the command", ENGLISH)}
"""Titles and words of what the command ``mmzhipu`` prints."""

_RAISING = re.compile(r"(Error|Exception)$|^(unsupported|new_error|bad_request|warn|warning)$")
_CLASSES = {"unsupported": "ValueError", "bad_request": "ServerError", "warn": "Warning", "warning": "Warning"}
"""Classes of the errors that functions of the package make, and warnings."""

# Texts that become parts of errors elsewhere: variables and functions with such names hold them.
_PART_NAMES = re.compile(r"message|reason|advice|hint|why|what|refusal|problem|cannot")
_PART = "~"
"""Stands for the class of such a text, which is not known here; it comes last."""

_INTERNAL = ("AssertionError", "NotImplementedError", "AttributeError")
"""Errors that show faults of the package itself."""

_PART_TITLES = {"zh": "原因与建议", "en": "Reasons and advice"}

_FORMAT = re.compile(r"%[.\d]*[sdrf]|\{\w*(?::\w+)?\}")
_MIN_LETTERS = 8


class Message(NamedTuple):
    """An error message in the source code: folder of the package, class, and text with ``…`` for values."""

    part: str
    error: str
    text: str


@cache
def messages() -> list[Message]:
    """Return the messages of the package, each once, in the order of their text."""
    found = set()
    for file in sorted(PACKAGE.rglob("*.py")):
        inside = file.relative_to(PACKAGE)
        part = inside.parts[0] if len(inside.parts) > 1 else ""
        for error, text in _messages_in(ast.parse(file.read_text(encoding="utf-8"))):
            if error not in _INTERNAL:
                found.add(Message(part, error, text))
    return sorted(found)


def page(language: str) -> str:
    """Return the text of the page in a language."""
    by_part: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for message in messages():
        by_part[message.part][message.error].append(message.text)
    lines = [INTRODUCTIONS[language]]
    for part, titles in PARTS.items():
        # A heading for each message: the search of the site ranks headings first, and each has an address.
        if part in by_part:
            lines.append(f"## {titles[list(PAGES).index(language)]}\n")
        for error, texts in by_part[part].items():
            lines += [f"### {_heading(error, language)}\n", *(f"#### {_as_code(text)}\n" for text in texts)]
    title, wording = COMMAND[language]
    lines += [f"## {title}\n", *(f"- {_as_markdown(text)}" for text in _words_of(asdict(wording)))]
    return "\n".join(lines).rstrip() + "\n"


def _heading(error: str, language: str) -> str:
    return _PART_TITLES[language] if error == _PART else f"`{error}`"


def _messages_in(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield class and text of the messages in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if _RAISING.search(name):
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                yield from ((_class_of(name, node), text) for text in _sentences(given))
        elif isinstance(node, ast.Assign) and any(_PART_NAMES.search(ast.unparse(each)) for each in node.targets):
            yield from ((_PART, text) for text in _sentences([node.value]))
        elif isinstance(node, ast.FunctionDef) and _PART_NAMES.search(node.name):
            returned = (each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value)
            yield from ((_PART, text) for text in _sentences(returned))


def _sentences(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the texts that have several words."""
    for node in nodes:
        text = " ".join(_FORMAT.sub("…", _text_of(node)).split())
        if len(re.findall(r"[a-zA-Z]", text)) >= _MIN_LETTERS and " " in text:
            yield text


def _class_of(name: str, call: ast.Call) -> str:
    """Return the class of an error; ``new_error`` takes it as its first argument."""
    if name == "new_error":
        first = ast.unparse(call.args[0])
        return first if first.endswith("Error") else "GLMError"
    return _CLASSES.get(name, name).lstrip("_")


def _text_of(node: ast.AST) -> str:
    """Return a text with ``…`` for what is computed; empty for what is no text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text_of(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (_text_of(node.left) or "…") + (_text_of(node.right) or "…")
    if isinstance(node, ast.IfExp):
        return f"{_text_of(node.body)} / {_text_of(node.orelse)}".strip(" /")
    return ""


def _words_of(wording: dict[str, object]) -> Iterator[str]:
    """Yield the sentences of the command, without the help for its options."""
    for name, value in wording.items():
        if isinstance(value, dict) and name != "help":
            yield from _words_of(value)
        elif isinstance(value, str) and _FORMAT.search(value):
            yield " ".join(_FORMAT.sub("…", value).split())


def _as_code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _as_markdown(text: str) -> str:
    return re.sub(r"([\\*_<>\[\]|`#])", r"\\\1", text)


def main() -> None:
    """Write the pages."""
    for language, file in PAGES.items():
        file.write_text(page(language), encoding="utf-8")
        print(f"Wrote {file}")


if __name__ == "__main__":
    main()
