"""The caches of captions and OCR results: one file for many threads and processes, errors that name it."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from llama_index_mm_zhipu.ingestion.cache import CacheError, ResultCache
from llama_index_mm_zhipu.ingestion.captioner import CaptionCache, CaptionCacheError


def results(path: Path | None) -> ResultCache:
    return ResultCache(path, name="results", column="text")


def test_a_cached_text_is_visible_to_other_connections(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.sqlite3"
    results(path).put("key", "一只猫")
    assert results(path).get("key") == "一只猫"
    assert results(path).get("other") is None
    results(path).put("key", "")
    assert results(path).get("key") == ""


def test_threads_share_the_cache(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite3"

    def write(start: int) -> None:
        for number in range(start, start + 20):
            results(path).put(str(number), f"图{number}")

    threads = [threading.Thread(target=write, args=(start,)) for start in range(0, 80, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results(path).get(str(number)) for number in range(80)] == [f"图{number}" for number in range(80)]


def test_the_default_is_in_the_cache_folder_of_llama_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_INDEX_CACHE_DIR", str(tmp_path))
    assert results(None).path == tmp_path / "llama_index_mm_zhipu" / "results.sqlite3"
    assert CaptionCache().path == tmp_path / "llama_index_mm_zhipu" / "captions.sqlite3"


def test_several_caches_may_be_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "all.sqlite3"
    CaptionCache(path).put("key", "一只猫")
    results(path).put("key", "文字")
    assert (CaptionCache(path).get("key"), results(path).get("key")) == ("一只猫", "文字")


def test_captions_of_earlier_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "captions.sqlite3"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table captions (key text primary key, caption text not null)")
        connection.execute("insert into captions values ('key', '一只猫')")
    assert CaptionCache(path).get("key") == "一只猫"


def test_a_file_that_is_no_cache_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite3"
    path.write_bytes(b"no database at all, but text that is long enough")
    with pytest.raises(CacheError, match=r"results at .*results\.sqlite3 cannot be used: .*; give another path"):
        results(path)
    with pytest.raises(CaptionCacheError, match="cache of captions at "):
        CaptionCache(path)


def test_a_table_of_other_columns_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite3"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table results (image text, lines text)")
    with pytest.raises(CacheError, match="no such column"):
        results(path)
