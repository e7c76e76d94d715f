"""Captions stay on disk."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from llama_index_mm_zhipu.ingestion.captioner import CaptionCache, CaptionCacheError


def test_what_was_put_is_there_for_others(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "captions.sqlite3"
    CaptionCache(path).put("key", "一只猫")
    assert CaptionCache(path).get("key") == "一只猫"
    assert CaptionCache(path).get("other") is None


def test_threads_share_it(tmp_path: Path) -> None:
    path = tmp_path / "captions.sqlite3"
    CaptionCache(path)

    def write(start: int) -> None:
        for number in range(start, start + 20):
            CaptionCache(path).put(str(number), f"图{number}")

    threads = [threading.Thread(target=write, args=(start,)) for start in range(0, 80, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [CaptionCache(path).get(str(number)) for number in range(80)] == [f"图{number}" for number in range(80)]


def test_by_default_it_lies_in_llamaindex_s_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_INDEX_CACHE_DIR", str(tmp_path))
    assert CaptionCache().path == tmp_path / "llama_index_mm_zhipu" / "captions.sqlite3"


def test_another_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "captions.sqlite3"
    path.write_bytes(b"no database at all, but text that is long enough")
    with pytest.raises(CaptionCacheError, match=r"captions\.sqlite3 cannot be used: .*; give another path"):
        CaptionCache(path)
