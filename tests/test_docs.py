"""The documentation is up to date: reference pages, links, code of guides, tables of models and errors."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from blocks import python_program
from published_forms import Example, chinese_clip, muge_retrieval, parquet, write_images, write_lines
from videos import scene, write_video

import llama_index_mm_zhipu
import llama_index_mm_zhipu.embedding
import llama_index_mm_zhipu.evaluation
import llama_index_mm_zhipu.ingestion
import llama_index_mm_zhipu.llm
import llama_index_mm_zhipu.query
import llama_index_mm_zhipu.readers
import llama_index_mm_zhipu.testing
import llama_index_mm_zhipu.vector_store
from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.llm import MODELS
from llama_index_mm_zhipu.llm.errors import ERROR_BY_CODE, error_from_answer
from llama_index_mm_zhipu.testing import MockGLMServer

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "docs").glob("*.md"))
REPOSITORY = re.compile(
    r"https://(?:github\.com/llama-index-mm-zhipu/llama-index-mm-zhipu/(?:blob|tree)"
    r"|raw\.githubusercontent\.com/llama-index-mm-zhipu/llama-index-mm-zhipu)/main/"
)
MARKDOWN = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("examples/**/*.md"),
    *ROOT.glob("llama_index_mm_zhipu/**/*.md"),
]


@pytest.fixture(scope="module")
def generator(load_script: Callable[[Path], ModuleType]) -> ModuleType:
    return load_script(Path("docs/generate.py"))


def test_reference_pages_are_up_to_date(generator: ModuleType) -> None:
    kept = {page.name: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md")}
    assert kept == generator.pages(), "run make docs"


def test_every_public_name_is_in_the_reference(generator: ModuleType) -> None:
    described = {name for modules in generator.PAGES.values() for names in modules.values() for name in names}
    public = {
        *llama_index_mm_zhipu.__all__,
        *llama_index_mm_zhipu.embedding.__all__,
        *llama_index_mm_zhipu.evaluation.__all__,
        *llama_index_mm_zhipu.ingestion.__all__,
        *llama_index_mm_zhipu.llm.__all__,
        *llama_index_mm_zhipu.query.__all__,
        *llama_index_mm_zhipu.readers.__all__,
        *llama_index_mm_zhipu.testing.__all__,
        *llama_index_mm_zhipu.vector_store.__all__,
    }
    assert public - {"MODELS", "OFFICIAL_MODELS", "PROMPTS"} <= described


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_and_links_to_the_repository_exist(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        if (ours := REPOSITORY.match(target)) is not None:
            assert (ROOT / target[ours.end() :]).exists(), target
        elif not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_links_of_the_readmes_are_absolute(readme: str) -> None:
    """The package index shows the READMEs, too."""
    text = re.sub(r"```.*?```|`[^`]*`", "", (ROOT / readme).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert [target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith("https://")] == []


@pytest.fixture(scope="module")
def lesson(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of three photographs."""
    return write_video(tmp_path_factory.mktemp("videos") / "lesson.mp4", [(scene(photo), 3) for photo in photos[:3]])


@pytest.fixture
def guide_folder(tmp_path: Path, photos: list[Path], lesson: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment that guides assume: an API key, a server, and images and data sets in the current directory."""
    monkeypatch.chdir(tmp_path)
    # The full-size model takes a second of CPU time for three images.
    photos = photos[:4]
    shutil.copy(photos[0], "car.jpg")
    shutil.copy(lesson, ".")
    Path("slides").mkdir()
    for photo in photos:
        shutil.copy(photo, "slides")
    write_lines(Path("captions.csv"), ["图片,标题,价格", f"{sorted(Path('slides').glob('*.jpg'))[0].name},裙子,199"])
    for case in ("lecture", "car_maintenance"):
        shutil.copy(ROOT / "examples" / "cases" / f"{case}.pdf", ".")
    examples = [Example(number, photo.read_bytes(), photo.stem) for number, photo in enumerate(photos, 1)]
    muge_retrieval(Path("MUGE"), examples)
    chinese_clip(Path("Flickr30k-CN"), examples)
    parquet(Path("hub"), examples)
    write_images(Path("images"), examples, "{}.jpg".format)
    write_lines(Path("goods.tsv"), ["no\ttitle\ttext\tfile\tcategory", "7\t裙子\t红色\t1.jpg\t服装"])
    with MockGLMServer() as server:
        monkeypatch.setenv("ZHIPUAI_API_KEY", "id.secret")
        monkeypatch.setenv("ZHIPUAI_BASE_URL", server.url)
        yield


@pytest.fixture(scope="module")
def loaded_model(vit_b_16_root: Path) -> ChineseClipEmbedding:
    """The full-size model, kept in memory: otherwise each guide would load it."""
    return ChineseClipEmbedding(str(vit_b_16_root), device="cpu")


@pytest.mark.usefixtures("guide_folder")
@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_the_code_of_guides_runs(guide: Path, documented_model: str, request: pytest.FixtureRequest) -> None:
    if documented_model == "ViT-B-16":
        request.getfixturevalue("loaded_model")
    exec(python_program(guide, documented_model), {})


def table_rows(start: str) -> list[list[str]]:
    """Return the cells of the rows in the LLM guide that begin with a string."""
    lines = (ROOT / "docs" / "en" / "guides" / "llm.md").read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith(start)]


def test_the_table_of_models_matches_the_code() -> None:
    text = (ROOT / "docs" / "en" / "guides" / "llm.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `glm")
    ]
    described = {name: cells for cells in rows for name in re.findall(r"`(glm-[^`]+)`", cells[0])}
    assert described.keys() == MODELS.keys()
    for name, (_, context, longest, images, *abilities) in described.items():
        limits = MODELS[name]
        assert context in (f"{limits.context_window // 1024} K", f"{limits.context_window:,}")
        assert longest == (f"{limits.max_tokens:,}" if limits.max_tokens else "not documented")
        documented = limits.documented_images
        assert images == (f"{limits.images} ({documented})" if documented else f"{limits.images} assumed")
        assert [bool(cell) for cell in abilities] == [limits.video, limits.tools, limits.thinking, limits.free]
        assert (abilities[2] == "always") == limits.always_thinks


def error_rows() -> list[list[str]]:
    """Return the cells of the table of errors in the LLM guide."""
    return [cells for cells in table_rows("| ") if re.fullmatch(r"`GLM\w+Error`", cells[1])]


def test_the_table_of_errors_matches_the_code() -> None:
    rows = error_rows()
    codes = {code for cells in rows for code in re.findall(r"\b1\d{3}\b", cells[0])}
    assert codes == set(ERROR_BY_CODE)
    for named, kind, retried, _ in rows:
        for code in re.findall(r"\b1\d{3}\b", named):
            error = error_from_answer(400, {"error": {"code": code}})
            assert (f"`{type(error).__name__}`", error.retryable) == (kind, retried == "yes"), code
        for status in re.findall(r"\b[45]\d\d\b", named) if named.startswith("HTTP") else []:
            error = error_from_answer(int(status), None)
            assert (f"`{type(error).__name__}`", error.retryable) == (kind, retried == "yes"), status


def test_the_table_of_errors_refers_to_existing_tests() -> None:
    source = (ROOT / "tests" / "llm" / "test_client_faults.py").read_text(encoding="utf-8")
    for cells in error_rows():
        for name in re.split(r", | … ", cells[3]):
            known = name.removeprefix("code ") if name.startswith("code ") else name
            assert f'"{known}"' in source or known == "1321", name


@pytest.mark.integration
def test_the_table_of_stores_is_up_to_date(load_script: Callable[[Path], ModuleType]) -> None:
    page = (ROOT / "docs" / "en" / "guides" / "scale.md").read_text(encoding="utf-8")
    assert page == load_script(Path("docs/store_table.py")).page(), "run make docs"
