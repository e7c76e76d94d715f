"""The table of models is found by the names that services and servers of one's own use."""

from __future__ import annotations

import pytest

from llama_index_mm_zhipu.llm.models import MODELS, UNKNOWN_MODEL, limits_of, takes_files, takes_video


@pytest.mark.parametrize("name", ["glm-4.6v-flash", "zai-org/GLM-4.6V-Flash", "/models/glm-4.6v-flash/"])
def test_a_model_is_found_by_the_last_part_of_its_name(name: str) -> None:
    assert limits_of(name) is MODELS["glm-4.6v-flash"]


def test_other_names_are_unknown() -> None:
    assert limits_of("glm-9v") is limits_of("glm-4v/other") is UNKNOWN_MODEL


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
def test_what_a_model_takes_besides_images(model: str, video: bool, files: bool) -> None:
    assert (takes_video(model), takes_files(model)) == (video, files)
