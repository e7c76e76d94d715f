"""Models are recognised by different spellings of their names; unknown models get assumed limits."""

from __future__ import annotations

import logging

import pytest

from llama_index_mm_zhipu.llm import MODELS
from llama_index_mm_zhipu.llm.models import UNKNOWN_GLM, UNKNOWN_MODEL, limits_of, table_name, takes_files, takes_video


@pytest.mark.parametrize("name", MODELS)
def test_every_name_in_the_table_is_recognised(name: str) -> None:
    assert table_name(name) == name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("GLM-4V-Flash", "glm-4v-flash"),
        ("zai-org/GLM-4.6V-Flash", "glm-4.6v-flash"),
        ("openrouter/z-ai/glm-4.6v", "glm-4.6v"),
        ("zhipu:glm-4.5v", "glm-4.5v"),
        ("glm-4.6v-flash-250801", "glm-4.6v-flash"),
        ("glm-4.6v-flashx-250801", "glm-4.6v-flashx"),
        ("GLM-4.6V-FP8", "glm-4.6v"),
        ("glm-4.6v-flash:latest", "glm-4.6v-flash"),
        ("glm-4.6v-flash@bigmodel", "glm-4.6v-flash"),
        ("glm-4.6v-nvfp4", "glm-4.6v"),
        ("mlx-community/GLM-4.6V-Flash-mlx-4bit", "glm-4.6v-flash"),
        ("GLM-4.6V-Flash.Q4_K_M.gguf", "glm-4.6v-flash"),
        ("GLM_5.3_FlashX", "glm-5.3-flashx"),
        ("glm5v-turbo", "glm-5v-turbo"),
        ("glm-4v-plus-0620", "glm-4v-plus"),
        ("glm-4v-plus-0111", "glm-4v-plus-0111"),
        ("THUDM/glm-4v-9b", "glm-4v"),
        ("Pro/THUDM/GLM-4.1V-9B-Thinking", "glm-4.1v-thinking-flash"),
        ("/models/GLM-4.6V-Flash/snapshots/1f3a", "glm-4.6v-flash"),
        ("models--zai-org--GLM-4.6V-Flash/snapshots/1f3a", "glm-4.6v-flash"),
    ],
)
def test_prefixes_suffixes_and_case_do_not_matter(written: str, name: str) -> None:
    assert table_name(written) == name
    assert limits_of(written) is MODELS[name]


def test_a_model_that_was_added_to_the_table_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "my-vision", UNKNOWN_GLM)
    assert limits_of("My-Vision") is UNKNOWN_GLM


@pytest.mark.parametrize("name", ["glm-9v", "glm-5v", "zai-org/GLM-6V-Flash", "glm-4v-ultra", "glm-4.7v-flash-1201"])
def test_unknown_glm_models_get_the_limits_of_new_models(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert table_name(name) is None
    assert limits_of(name) is UNKNOWN_GLM
    assert (UNKNOWN_GLM.context_window, UNKNOWN_GLM.default_max_tokens, UNKNOWN_GLM.tools) == (131_072, 16_384, True)
    assert not caplog.records


@pytest.mark.parametrize("name", ["qwen2.5-vl-7b", "my-vision", "chatglm3-6b", "", "glm"])
def test_other_models_get_cautious_limits_and_one_warning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert [limits_of(name) for _ in range(3)] == [UNKNOWN_MODEL] * 3
    assert not UNKNOWN_MODEL.tools
    assert [repr(name) in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("name", ["glm-5.3-flash", "glm-5.3-flashx"])
def test_the_newest_models_have_a_long_context_and_always_think(name: str) -> None:
    limits = MODELS[name]
    assert (limits.context_window, limits.max_tokens) == (1_000_000, 128_000)
    assert limits.tools
    assert limits.video
    assert limits.thinking
    assert limits.always_thinks


@pytest.mark.parametrize(
    ("model", "video", "files"),
    [
        ("glm-4v-flash", False, False),
        ("GLM-4v", False, False),
        ("glm-4v-plus-0111", True, False),
        ("glm-4.1v-thinking-flash", True, False),
        ("glm-4.5v", True, True),
        ("zai-org/GLM-4.6V", True, True),
        ("glm-5.3-flash", True, True),
    ],
)
def test_videos_and_files_are_sent_only_to_models_that_may_accept_them(model: str, video: bool, files: bool) -> None:
    assert (takes_video(model), takes_files(model)) == (video, files)
