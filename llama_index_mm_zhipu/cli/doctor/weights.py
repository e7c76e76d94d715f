"""Checks of the weights of a model, and of the sources of weights that are not here yet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llama_index_mm_zhipu.cli.doctor.check import Context, Finding, size_text
from llama_index_mm_zhipu.cli.doctor.network import Answer, ask
from llama_index_mm_zhipu.cli.doctor.wording import Wording

if TYPE_CHECKING:
    from llama_index_mm_zhipu.embedding.chinese_clip.official_models import OfficialModel


def check_weights(context: Context) -> Finding:
    """Check that the weights are there and whole, without loading them."""
    from llama_index_mm_zhipu.embedding.backends import CheckpointError
    from llama_index_mm_zhipu.embedding.chinese_clip.checkpoint import find_checkpoint, official_model_of
    from llama_index_mm_zhipu.embedding.chinese_clip.official_models import OFFICIAL_MODELS

    words, model = context.words, context.model
    official = official_model_of(model)
    if official is not None:
        context.architecture = official.architecture
        if not _official_path(official).is_file():
            context.missing_weights = official
            return _absent(model, _official_path(official), words)
    elif not Path(model).expanduser().exists():
        advice = words.weights_unknown_advice.format(names=words.comma.join(OFFICIAL_MODELS))
        return Finding("failed", words.weights_unknown.format(model=model), advice)
    path = Path(model)
    try:
        checkpoint = find_checkpoint(model)
        for path in checkpoint.files:
            if (problem := _problem_of(path, words, is_official=official is not None)) is not None:
                return problem
        fingerprint = checkpoint.fingerprint()
    except (CheckpointError, OSError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).removeprefix(f"{path} ")
        return Finding("failed", words.weights_unusable.format(path=path, reason=reason), words.weights_unusable_advice)
    context.architecture, context.fingerprint = checkpoint.architecture, fingerprint
    size = size_text(sum(file.stat().st_size for file in checkpoint.files))
    return Finding("ok", words.weights.format(model=model, path=checkpoint.path, size=size, fingerprint=fingerprint))


def check_download(context: Context) -> Finding | None:
    """Check that missing weights can be downloaded: from Hugging Face, or its mirror in HF_ENDPOINT, or ModelScope."""
    from huggingface_hub import constants

    from llama_index_mm_zhipu.embedding.chinese_clip.official_models import sources_of
    from llama_index_mm_zhipu.llm.endpoint import without_credentials

    words, official = context.words, context.missing_weights
    if official is None:
        return None
    place = {"filename": official.filename, "path": _official_path(official)}
    if constants.HF_HUB_OFFLINE:
        return Finding("failed", words.download_offline, words.download_offline_advice.format(**place))
    sources = sources_of(official)
    if not context.online:
        hosts = [words.not_asked.format(host=without_credentials(source.host)) for source in sources]
        return Finding("ok", words.semicolon.join(hosts))
    answers = ask([source.url for source in sources], method="HEAD", follow_redirects=True)
    detail = words.semicolon.join(_describe(answer, words) for answer in answers)
    has_file = [answer.status == 200 for answer in answers]
    if not any(has_file):
        return Finding("failed", detail, words.download_advice.format(**place))
    if size := max(answer.size for answer in answers if answer.status == 200):
        detail = words.semicolon.join([detail, words.download_size.format(size=size_text(size))])
    if not has_file[0]:
        return Finding("warning", detail, words.download_first_advice)
    return Finding("ok", detail)


def _official_path(official: OfficialModel) -> Path:
    from llama_index_mm_zhipu.embedding.chinese_clip.official_models import DEFAULT_DOWNLOAD_ROOT

    return Path(DEFAULT_DOWNLOAD_ROOT).expanduser() / official.filename


def _absent(model: str, path: Path, words: Wording) -> Finding:
    from llama_index_mm_zhipu.embedding.chinese_clip.official_models import unfinished_download

    detail = words.weights_absent.format(model=model, path=path)
    unfinished = unfinished_download(path)
    if unfinished.is_file():
        part = words.weights_part.format(size=size_text(unfinished.stat().st_size))
        detail = words.semicolon.join([detail, part])
    return Finding("warning", detail, words.weights_absent_advice)


def _problem_of(path: Path, words: Wording, *, is_official: bool) -> Finding | None:
    """Return what is wrong with a file of a checkpoint; None if nothing is.

    Args:
        path: The file.
        words: The texts.
        is_official: Whether it was published as a file of ``torch.save``, the checksums of which are then compared.

    Raises:
        CheckpointError: The file is damaged.
        OSError: The file cannot be read.
    """
    from llama_index_mm_zhipu.embedding.chinese_clip.official_models import require_weights
    from llama_index_mm_zhipu.embedding.chinese_clip.weight_files import (
        describe_other_file,
        is_lfs_pointer,
        require_complete,
    )

    # The functions below take a file that cannot be read for an empty one.
    with path.open("rb"):
        size = path.stat().st_size
    if not size:
        advice = words.weights_again_advice.format(path=path)
        return Finding("failed", words.weights_empty.format(path=path), advice)
    if is_lfs_pointer(path):
        advice = words.weights_lfs_advice.format(folder=path.parent)
        return Finding("failed", words.weights_lfs.format(path=path), advice)
    if path.suffix == ".json":
        return None
    if (other := describe_other_file(path)) is not None:
        detail = words.weights_unusable.format(path=path, reason=other)
        return Finding("failed", detail, words.weights_again_advice.format(path=path))
    require_complete(path)
    if is_official:
        require_weights(path)
    return None


def _describe(answer: Answer, words: Wording) -> str:
    if answer.status == 200:
        return words.answers.format(host=answer.host)
    if answer.status:
        return words.answers_with.format(host=answer.host, status=answer.status)
    return answer.describe(words)
