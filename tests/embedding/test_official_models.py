"""Official models are known by every name that people write."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_index_mm_zhipu import ChineseClipEmbedding
from llama_index_mm_zhipu.embedding import OFFICIAL_MODELS, CheckpointError
from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint
from llama_index_mm_zhipu.embedding.chinese_clip.official_models import official_name
from llama_index_mm_zhipu.testing import tiny_checkpoint


@pytest.mark.parametrize("name", OFFICIAL_MODELS)
@pytest.mark.parametrize(
    "form",
    [
        "OFA-Sys/{}",
        "AI-ModelScope/{}",
        "ofa-sys/{}",
        "{}",
        "https://huggingface.co/OFA-Sys/{}",
        "https://hf-mirror.com/OFA-Sys/{}/",
        "https://www.modelscope.cn/models/AI-ModelScope/{}",
        "https://huggingface.co/OFA-Sys/{}.git",
    ],
)
def test_repositories_stand_for_official_models(name: str, form: str) -> None:
    repository = OFFICIAL_MODELS[name].repository
    assert official_name(form.format(repository)) == name
    assert official_name(form.format(repository.upper().replace("-", "_"))) == name


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ViT-B/16", "ViT-B-16"),
        ("vit-b-16", "ViT-B-16"),
        ("vit_b_16", "ViT-B-16"),
        ("ViT-B16", "ViT-B-16"),
        ("VIT-B/16 ", "ViT-B-16"),
        ("ViT-L/14", "ViT-L-14"),
        ("ViT-L/14@336px", "ViT-L-14-336"),
        ("ViT-L-14@336", "ViT-L-14-336"),
        ("vit-l-14-336px", "ViT-L-14-336"),
        ("chinese-clip-vit-large-patch14-336", "ViT-L-14-336"),
        ("ViT-H/14", "ViT-H-14"),
        ("rn50", "RN50"),
        ("chinese-clip-vit-h-14", "ViT-H-14"),
        ("clip_cn_vit-l-14", "ViT-L-14"),
        ("ViT-B-16@RoBERTa-wwm-ext-base-chinese", "ViT-B-16"),
    ],
)
def test_spellings_stand_for_official_models(spelling: str, name: str) -> None:
    assert official_name(spelling) == name


@pytest.mark.parametrize(
    "name", ["somebody/chinese-clip-vit-base-patch16", "openai/clip-vit-base-patch16", "", "ViT/16"]
)
def test_weights_of_others_are_not_the_official_ones(name: str) -> None:
    assert official_name(name) is None


@pytest.mark.parametrize("name", ["OFA-Sys/chinese-clip-rn50", "chinese-clip-rn50", "rn50", "RN-50"])
def test_spellings_have_the_fingerprint_of_the_official_name(name: str, rn50_root: Path) -> None:
    found, official = (find_checkpoint(name, download_root=rn50_root) for name in (name, "RN50"))
    assert found == official
    assert found.fingerprint() == official.fingerprint()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("OFA-Sys/chinese-clip-vit-base-patch61", "ViT-B-16"),
        ("somebody/chinese-clip-vit-huge-patch14", "ViT-H-14"),
        ("ViT-L/14@363px", "ViT-L-14-336"),
        ("weights/clip_cn_rn50.pt", "RN50"),
    ],
)
def test_an_unknown_name_is_answered_by_the_nearest(name: str, near: str) -> None:
    with pytest.raises(CheckpointError, match=rf"^unknown model '{name}': [^\n]*; did you mean '{near}'\?$"):
        find_checkpoint(name)


def test_nothing_is_proposed_for_a_name_of_another_kind() -> None:
    with pytest.raises(CheckpointError, match=r"directory or \.pt file$"):
        find_checkpoint("bert-base-uncased")


def test_a_folder_that_exists_is_taken_before_a_name(
    rn50_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OFA-Sys/chinese-clip-rn50", "ViT-B/16", "RN50"):
        tiny_checkpoint(name)
        assert ChineseClipEmbedding(name, backend="torch", download_root=str(rn50_root)).embed_dim == 32


def test_an_empty_folder_does_not_hide_a_model(
    rn50_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "RN50").mkdir()
    assert find_checkpoint("RN50", download_root=rn50_root).embed_dim == 1024
