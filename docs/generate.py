"""Write docs/reference/ from the docstrings of the public names: one page per part.

Run with ``make docs``; a test compares the pages with what this writes.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import griffe
from blocks import changed_outside
from griffe2md import prepare_context, prepare_env
from jinja2 import Environment

REFERENCE = Path(__file__).parent / "reference"

PAGES: dict[str, dict[str, list[str]]] = {
    "embedding": {
        "llama_index_mm_zhipu.embedding.chinese_clip.embedding": ["ChineseClipEmbedding"],
        "llama_index_mm_zhipu.embedding.backends": ["CheckpointError", "BackendError", "PrecisionReport"],
        "llama_index_mm_zhipu.embedding.nodes": ["embed_nodes", "EmbeddedNodes"],
        "llama_index_mm_zhipu.embedding.contract": [
            "StreamsImageEmbeddings",
            "HasFingerprint",
            "HasReference",
            "HasPrecision",
            "KnowsText",
            "AdaptsToLongTexts",
            "RecommendsCaptionWeight",
            "EmbedsImagesWithText",
        ],
    },
    "vector_store": {
        "llama_index_mm_zhipu.vector_store.store": ["FaissMultiModalVectorStore"],
        "llama_index_mm_zhipu.vector_store.errors": ["StoreError", "ModelMismatchError"],
    },
    "llm": {
        "llama_index_mm_zhipu.llm.llm": ["ZhipuMultiModal"],
        "llama_index_mm_zhipu.llm.errors": [
            "GLMError",
            "GLMAuthenticationError",
            "GLMQuotaError",
            "GLMRateLimitError",
            "GLMInvalidRequestError",
            "GLMContextTooLongError",
            "GLMContentFilteredError",
            "GLMServerError",
            "GLMConnectionError",
            "GLMTimeoutError",
            "GLMToolCallError",
            "GLMBudgetError",
            "GLMProtocolError",
        ],
        "llama_index_mm_zhipu.llm.usage": ["Price", "Usage", "ModelUsage"],
        "llama_index_mm_zhipu.llm.layout_parsing": ["LayoutParser"],
        "llama_index_mm_zhipu.llm.layout": ["Layout", "LayoutPage", "LayoutElement"],
    },
    "index": {
        "llama_index_mm_zhipu.index.build": ["build_index", "load_index"],
        "llama_index_mm_zhipu.index.read": ["read_nodes"],
        "llama_index_mm_zhipu.index.multimodal": ["ImageIndex"],
        "llama_index_mm_zhipu.index.stores": ["as_index_store"],
        "llama_index_mm_zhipu.vector_store.contract": ["IndexStore"],
    },
    "stores": {
        "llama_index_mm_zhipu.stores.external": ["ExternalVectorStore"],
        "llama_index_mm_zhipu.stores.transfer.moving": ["export_index", "import_index", "TransferReport"],
        "llama_index_mm_zhipu.stores.transfer.shards": ["nodes_to_table", "write_manifest"],
    },
    "distributed": {
        "llama_index_mm_zhipu.distributed.embed": ["embed_dataset"],
        "llama_index_mm_zhipu.distributed.sources": ["DatasetSource"],
        "llama_index_mm_zhipu.distributed.workers": ["Stage"],
        "llama_index_mm_zhipu.distributed.run": ["EmbedReport"],
    },
    "query": {
        "llama_index_mm_zhipu.query.retriever": ["ImageRetriever"],
        "llama_index_mm_zhipu.query.engine": ["ImageQueryEngine"],
        "llama_index_mm_zhipu.query.chat": ["ImageContextChatEngine", "ImageCondensePlusContextChatEngine"],
        "llama_index_mm_zhipu.query.rerank": ["ImageReranker"],
        "llama_index_mm_zhipu.query.rewrite": ["QueryRewriter", "Rewritten"],
        "llama_index_mm_zhipu.query.tools": ["image_search_tool"],
        "llama_index_mm_zhipu.query.mcp_tools": ["with_image_blocks"],
        "llama_index_mm_zhipu.query.labels": ["ImageNumbering", "number_images"],
        "llama_index_mm_zhipu.prompts.templates": ["ImagePromptTemplate"],
        "llama_index_mm_zhipu.query.citations": ["citations_in"],
        "llama_index_mm_zhipu.llm.errors": ["EmptyAnswerError"],
        "llama_index_mm_zhipu.llm.structured_answers": ["UnreadableAnswerError"],
    },
    "ingestion": {
        "llama_index_mm_zhipu.ingestion.captioner": ["ImageCaptioner", "CaptionCacheError"],
        "llama_index_mm_zhipu.ingestion.glm_ocr": ["GlmOcrEngine"],
        "llama_index_mm_zhipu.ingestion.ocr": ["ImageOcr", "OcrCacheError"],
        "llama_index_mm_zhipu.ingestion.ocr_engines": ["OcrEngine", "OcrLine", "RapidOcrEngine"],
        "llama_index_mm_zhipu.ingestion.ocr_workers": ["OcrEngineError", "OcrWorkerError"],
        "llama_index_mm_zhipu.ingestion": ["forget_missing"],
    },
    "readers": {
        "llama_index_mm_zhipu.readers.base": ["ImageReader"],
        "llama_index_mm_zhipu.readers.jsonl": ["JsonlReader", "read_jsonl"],
        "llama_index_mm_zhipu.readers.tsv_datasets": [
            "ChineseClipReader",
            "MugeRetrievalReader",
            "MugeCaptionReader",
        ],
        "llama_index_mm_zhipu.readers.caption_datasets": [
            "Flickr8kCnReader",
            "Flickr30kCnReader",
            "CocoCnReader",
            "WukongReader",
        ],
        "llama_index_mm_zhipu.readers.columns": ["Columns", "WUDAOMM", "PRODUCT1M", "ColumnReader"],
        "llama_index_mm_zhipu.readers.pages": ["PageReader"],
        "llama_index_mm_zhipu.readers.figures_office": ["FigureReader"],
        "llama_index_mm_zhipu.readers.video": ["VideoReader"],
        "llama_index_mm_zhipu.readers.layout": ["LayoutReader"],
        "llama_index_mm_zhipu.readers.records": ["RecordError"],
        "llama_index_mm_zhipu.readers.folder": ["FolderReader", "read_folder"],
    },
    "evaluation": {
        "llama_index_mm_zhipu.evaluation.retrieval": ["evaluate_retrieval", "RetrievalReport", "DirectionScores"],
        "llama_index_mm_zhipu.evaluation.dataset": [
            "RetrievalDataset",
            "RetrievalQuery",
            "PublishedRecall",
            "PUBLISHED",
        ],
    },
    "display": {
        "llama_index_mm_zhipu.display.plots": ["plot_results"],
        "llama_index_mm_zhipu.display.gallery": ["show", "Gallery"],
    },
    "images": {
        "llama_index_mm_zhipu.images.loading": ["load_image", "load_resized", "read_bytes", "encode_image"],
        "llama_index_mm_zhipu.images.opening": ["open_image"],
        "llama_index_mm_zhipu.images.sources": ["UrlRules", "decode_base64"],
        "llama_index_mm_zhipu.images.errors": ["ImageError"],
    },
    "service": {
        "llama_index_mm_zhipu.service.image_service": ["ImageService", "SearchResults"],
        "llama_index_mm_zhipu.service.errors": ["UnknownNodeError"],
        "llama_index_mm_zhipu.service.inputs": ["IndexInputs"],
        "llama_index_mm_zhipu.service.results": ["SearchResult", "Answer", "StoredImage", "IndexReport"],
        "llama_index_mm_zhipu.service.answers": ["AnswerStream", "ChatSession"],
        "llama_index_mm_zhipu.service.status": ["status_of", "IndexStatus", "IndexSource"],
        "llama_index_mm_zhipu.mcp.server": ["build_server"],
    },
    "testing": {
        "llama_index_mm_zhipu.testing.mock_server": ["MockGLMServer", "connect_glm"],
        "llama_index_mm_zhipu.testing.layout": ["SentPage"],
        "llama_index_mm_zhipu.testing.faults": [
            "Fault",
            "ErrorAnswer",
            "RawAnswer",
            "ErrorEvent",
            "GarbageEvent",
            "Cut",
            "Stall",
            "Delay",
            "Trickle",
            "MissingDone",
            "NoFinalNewline",
            "Ending",
            "Reasoning",
            "Wrapped",
            "Says",
            "NullContent",
            "EmptyChoices",
        ],
        "llama_index_mm_zhipu.testing.gateway_faults": [
            "Compressed",
            "Endless",
            "GatewayError",
            "NoFinishReason",
            "OddEvents",
            "ToolCalls",
        ],
        "llama_index_mm_zhipu.testing.fixtures": ["mock_glm_server"],
        "llama_index_mm_zhipu.testing.checkpoints": ["tiny_checkpoint"],
    },
}
"""Public names by page and by the module that defines them."""

_STYLE = {
    "heading_level": 2,
    "docstring_section_style": "list",
    "show_signature_annotations": True,
    "summary": False,
}
_ABOUT_EXAMPLES = (
    'In the examples, `embed_model` is `ChineseClipEmbedding("ViT-B-16")`, `nodes` are images of a folder with '
    "captions, `index` is `build_index(nodes, embed_model)`, and `llm` is `ZhipuMultiModal()`. Names that "
    "`llama_index_mm_zhipu` exports are imported. The outputs come from the "
    "[demo model](../../examples/demo/README.md) and a mock of the GLM API, so that tests can check them."
)
_LINK = re.compile(r"\[([^\]]+)\]\(#([^)]+)\)")
_SIGNATURE = re.compile(r"(?<=^```python\n)[\w.]+\(.*\)(?: -> .*)?(?=\n```$)", re.MULTILINE)
_LINE_LENGTH = 88
# The stars of *args and **kwargs beside those of bold type.
_STARRED = re.compile(r"^- \*\*(\*+)(\w+)\*\*", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"(?<![\[\w])`(\w+)`(?!\]\()")

OVERVIEW = "overview"
"""Name of the page that lists all names."""


def pages() -> dict[str, str]:
    """Return the text of each page by file name."""
    package = griffe.load("llama_index_mm_zhipu", docstring_parser="google")
    # One environment for all pages: griffe2md's render_object_docs compiles the templates for each object.
    templates = prepare_env()
    texts = {page: _page(page, modules, package, templates) for page, modules in PAGES.items()}
    texts = _with_short_lines(texts)
    return {f"{OVERVIEW}.md": _overview(package)} | {
        f"{page}.md": _with_links(text, page) for page, text in texts.items()
    }


def _documented(package: griffe.Object | griffe.Alias, module: str, name: str) -> griffe.Object | griffe.Alias:
    documented: griffe.Object | griffe.Alias = package[f"{module}.{name}".removeprefix(f"{package.name}.")]
    return documented


def _overview(package: griffe.Object | griffe.Alias) -> str:
    """Return the page that lists all names with the first lines of their docstrings."""
    lines = ["# All names", "", "The public names of `llama_index_mm_zhipu`, by page.", ""]
    for page, modules in PAGES.items():
        lines += [f"## {page}", "", "| name | |", "|---|---|"]
        for module, names in modules.items():
            for name in names:
                documented = _documented(package, module, name)
                first = documented.docstring.value.partition("\n")[0] if documented.docstring else ""
                lines.append(f"| [`{name}`]({page}.md#{name.lower()}) | {first.replace('|', chr(92) + '|')} |")
        lines.append("")
    return _as_plain_markdown("\n".join(lines))


def _page(
    title: str, modules: dict[str, list[str]], package: griffe.Object | griffe.Alias, templates: Environment
) -> str:
    parts = [f"# `{title}`", _ABOUT_EXAMPLES]
    for module, names in modules.items():
        for name in names:
            documented = _documented(package, module, name)
            template = templates.get_template(f"{documented.kind.value}.md.jinja")
            text = template.render(**prepare_context(documented, _STYLE))
            parts.append(text.strip().replace(f"`{module}.", "`"))
    return _as_plain_markdown("\n\n".join(parts)) + "\n"


def _with_short_lines(texts: dict[str, str]) -> dict[str, str]:
    """Return the pages with signatures that have one parameter in a line where they are long.

    The formatter is started once, for all of them.
    """
    found = sorted({match[0] for text in texts.values() for match in _SIGNATURE.finditer(text)})
    valid = [signature for signature in found if len(signature) > _LINE_LENGTH and _is_valid(_as_function(signature))]
    code = "".join(f"{_as_function(signature)}\n# end\n" for signature in valid)
    command = [sys.executable, "-m", "ruff", "format", "--line-length", str(_LINE_LENGTH), "-"]
    done = subprocess.run(command, input=code, capture_output=True, text=True, encoding="utf-8", check=True)
    formatted = [part.strip() for part in done.stdout.removesuffix("# end\n").split("# end\n")]
    new = {
        signature: part.removesuffix("...").rstrip().removesuffix(":").replace("def _", signature.partition("(")[0], 1)
        for signature, part in zip(valid, formatted, strict=True)
    }
    return {page: _SIGNATURE.sub(lambda match: new.get(match[0], match[0]), text) for page, text in texts.items()}


def _as_function(signature: str) -> str:
    return f"def _{signature[signature.index('(') :]}: ..."


def _is_valid(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


def _with_links(text: str, page: str) -> str:
    """Return the text of a page in which public names lead to their descriptions."""
    places = {name: each for each, modules in PAGES.items() for names in modules.values() for name in names}

    def linked(match: re.Match[str]) -> str:
        name = match[1]
        if name not in places:
            return match[0]
        file = "" if places[name] == page else f"{places[name]}.md"
        return f"[`{name}`]({file}#{name.lower()})"

    def with_links(prose: str) -> str:
        lines = prose.split("\n")
        return "\n".join(line if line.startswith("#") else _NAME.sub(linked, line) for line in lines)

    return changed_outside(_FENCED, text, with_links)


def _as_plain_markdown(text: str) -> str:
    """Drop links, whose targets a Markdown viewer does not know, and write code as Markdown does."""
    text = _LINK.sub(r"\1", re.sub(r"</?code>", "`", text))
    text = _STARRED.sub(lambda match: "- **" + match[1].replace("*", r"\*") + match[2] + "**", text)
    return re.sub(r"(?<!`)``(?!`)", "`", text)


def main() -> None:
    """Write the pages."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        print(f"Wrote {REFERENCE / name}")


if __name__ == "__main__":
    main()
