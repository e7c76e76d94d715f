"""Find the weights that a model name stands for, and load them without executing anything in them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from llama_index_mm_zhipu.embedding.backends import CheckpointError, short_detail
from llama_index_mm_zhipu.embedding.chinese_clip.official_models import (
    DEFAULT_DOWNLOAD_ROOT,
    OFFICIAL_MODELS,
    DownloadSource,
    OfficialModel,
    nearest_official_name,
    official_file,
    official_name,
)
from llama_index_mm_zhipu.embedding.chinese_clip.state_dicts import (
    Tensors,
    clean_names,
    clip_config,
    cn_clip_tensors,
    find_state_dict,
    first_not_finite,
    is_finite,
    is_transformers_config,
    is_transformers_state,
    mismatch,
)
from llama_index_mm_zhipu.embedding.chinese_clip.weight_files import (
    CONFIG,
    all_files,
    read_config,
    read_weights_file,
    weights_in,
)

if TYPE_CHECKING:
    from cn_clip.clip.model import CLIP

FileState: TypeAlias = tuple[tuple[str, int, int], ...]
"""Path, size in bytes and modification time in ns of each file."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights and their architecture.

    Attributes:
        path: The weight file; the first of ``files``.
        architecture: Name of the architecture, ``<vision>@<text>`` as in cn_clip.
        config: Keyword arguments of ``cn_clip.clip.model.CLIP``.
        shards: The other files, if the weights are split over several.
    """

    path: Path
    architecture: str
    config: dict[str, Any]
    shards: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All weight files, and the index if there are several."""
        return (self.path, *self.shards)

    @property
    def input_resolution(self) -> int:
        """Side of the model's square input images, in pixels."""
        return int(self.config["image_resolution"])

    @property
    def embed_dim(self) -> int:
        """Dimension of the vectors."""
        return int(self.config["embed_dim"])

    @property
    def file_state(self) -> FileState:
        """State of the files, a cheap test for whether they have changed.

        Raises:
            CheckpointError: A file is gone.
        """
        return tuple(map(_file_state, self.files))

    def fingerprint(self) -> str:
        """Return architecture and SHA-256 of the weights: the same for equal files in any folder."""
        return f"{self.architecture} sha256:{self._sha256()[:16]}"

    def content_hash(self) -> str:
        """Return a hash of weights and architecture, 16 hexadecimal digits."""
        content = self._sha256() + json.dumps(self.config, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def _sha256(self) -> str:
        digests = [_sha256(*state) for state in self.file_state]
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def find_checkpoint(
    model_name: str,
    *,
    download_root: str | Path = DEFAULT_DOWNLOAD_ROOT,
    download_source: DownloadSource = "huggingface",
    vision_model_name: str | None = None,
    text_model_name: str | None = None,
    input_resolution: int | None = None,
) -> Checkpoint:
    """Find the weights that a name stands for; download a missing official file.

    Args:
        model_name: A path, or a name of ``OFFICIAL_MODELS`` in any of its spellings (``"ViT-B/16"``,
            ``"OFA-Sys/chinese-clip-vit-base-patch16"``). A path is a weight file, or a directory with weights and
            ``config.json``: the keyword arguments of cn_clip's ``CLIP``, or a configuration of transformers. An
            existing path takes precedence over a name.
        download_root: Folder of the official files; missing ones are downloaded to it.
        download_source: The source to try first. ``HF_ENDPOINT`` names a mirror of Hugging Face.
        vision_model_name: cn_clip's name of the image encoder; needed for a file that has neither an official name nor
            a ``config.json`` beside it.
        text_model_name: cn_clip's name of the text encoder; needed in the same cases.
        input_resolution: Side of the images in pixels, if it differs from the encoder's default.

    Raises:
        CheckpointError: The name is unknown, or the weights are missing and cannot be downloaded.
    """
    official = official_model_of(model_name)
    if official is not None:
        path = official_file(official, Path(download_root).expanduser(), download_source)
        return _named_checkpoint(path, official.vision_model_name, official.text_model_name, input_resolution)
    path = _path_of(model_name)
    if path.is_file():
        return _file_checkpoint(path, vision_model_name, text_model_name, input_resolution)
    if path.is_dir():
        return _directory_checkpoint(path)
    near = nearest_official_name(model_name)
    raise CheckpointError(
        f"unknown model {model_name!r}: use one of {', '.join(OFFICIAL_MODELS)}, or the path of an existing "
        "directory or .pt file" + (f"; did you mean {near!r}?" if near else "")
    )


def official_model_of(model_name: str) -> OfficialModel | None:
    """Return the official model that a name stands for; None for an existing path and for unknown names."""
    path, name = _path_of(model_name), official_name(model_name)
    if path.is_file() or (path.is_dir() and (model_name not in OFFICIAL_MODELS or _has_weights(path))):
        return None
    return OFFICIAL_MODELS[name] if name is not None else None


def cn_clip_folder() -> Path:
    """Return the folder of cn_clip without importing it, which would load torch and torchvision."""
    spec = find_spec("cn_clip")
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError("cn_clip is not installed: pip install cn_clip")
    return Path(spec.submodule_search_locations[0])


def load_model(checkpoint: Checkpoint) -> CLIP:
    """Return cn_clip's model with the checkpoint's weights, on the CPU, in fp16 with layer norms in fp32.

    Nothing in the files is executed (``weights_only=True``, or safetensors) and nothing is printed.

    Raises:
        CheckpointError: The weights are damaged, belong to another architecture, contain NaN or Inf, or a file holds
            more than tensors.
    """
    import torch
    from cn_clip.clip.model import CLIP, convert_weights

    # The meta device skips the initialisation of weights that are replaced at once.
    try:
        with torch.device("meta"):
            model = CLIP(**checkpoint.config)
    except Exception as error:
        detail = short_detail(error)
        raise CheckpointError(
            f"cn_clip cannot build {checkpoint.architecture} for {checkpoint.path}: {detail}"
        ) from None
    # Sets the dtypes that loaded weights are cast to: fp16, but fp32 for layer norms.
    convert_weights(model)
    state = _read_state_dict(checkpoint)
    names = clean_names(state, checkpoint.path)
    weights = _matching_weights({name: state[source] for name, source in names.items()}, model, checkpoint)
    # Checked after the cast to fp16, which turns large numbers into Inf.
    if not all(map(is_finite, weights.values())):
        raise CheckpointError(
            f"the weights in {checkpoint.path} hold {first_not_finite(state, names)}: their training diverged, or the "
            "file is damaged; take an earlier checkpoint, or fetch it again"
        )
    model.load_state_dict(weights, assign=True)
    model.eval().requires_grad_(False)
    if not is_finite(model.logit_scale.exp()):
        scale = float(model.logit_scale)
        raise CheckpointError(
            f"the weights in {checkpoint.path} have a logit_scale of {scale:g}, whose exponential is infinite: take "
            "an earlier checkpoint, or fetch it again"
        )
    return model


def _path_of(model_name: str) -> Path:
    # Absolute, so that the weights are found after the program has changed its working directory.
    path = Path(model_name).expanduser().absolute()
    return path.parent if path.name == CONFIG and path.is_file() else path


def _has_weights(directory: Path) -> bool:
    """Return whether a directory with the name of a model is one; an empty one, for example, does not hide it."""
    return (directory / CONFIG).is_file() or _official_file_in(directory) is not None


def _file_state(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise CheckpointError(f"the weights {path} cannot be read any more: {error.strerror}") from None
    return str(path.resolve()), found.st_size, found.st_mtime_ns


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, modified: int) -> str:
    """Return the hash of a weight file, computed once per process and state of the file."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _named_checkpoint(path: Path, vision: str, text: str, input_resolution: int | None) -> Checkpoint:
    config = _named_config(vision, text)
    if input_resolution is not None:
        config["image_resolution"] = input_resolution
    first, *rest = all_files(path)
    return Checkpoint(first, f"{vision}@{text}", config, tuple(rest))


def _named_config(vision: str, text: str) -> dict[str, Any]:
    return _with_layers_as_list({**_encoder_config(vision), **_encoder_config(text)})


def _with_layers_as_list(config: dict[str, Any]) -> dict[str, Any]:
    """Parse the ``vision_layers`` of RN50, which cn_clip's files give as a string."""
    layers = config.get("vision_layers")
    return {**config, "vision_layers": json.loads(layers)} if isinstance(layers, str) else config


def _encoder_config(name: str) -> dict[str, Any]:
    configs = cn_clip_folder() / "clip" / "model_configs"
    path = configs / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in configs.glob("*.json")))
        raise CheckpointError(f"cn_clip has no configuration named {name!r}; it has {known}")
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def _file_checkpoint(path: Path, vision: str | None, text: str | None, input_resolution: int | None) -> Checkpoint:
    for official in OFFICIAL_MODELS.values():
        if official.filename == path.name:
            vision, text = vision or official.vision_model_name, text or official.text_model_name
    if vision and text:
        return _named_checkpoint(path, vision, text, input_resolution)
    if not vision and not text and (path.parent / CONFIG).is_file():
        architecture, config = _architecture_in(path.parent)
        first, *rest = all_files(path)
        return Checkpoint(first, architecture, config, tuple(rest))
    raise CheckpointError(
        f"cannot tell the architecture of {path}: give vision_model_name and text_model_name, for example "
        'vision_model_name="ViT-B-16", text_model_name="RoBERTa-wwm-ext-base-chinese"'
    )


def _directory_checkpoint(directory: Path) -> Checkpoint:
    if not (directory / CONFIG).is_file():
        official = _official_file_in(directory)
        if official is not None:
            return _file_checkpoint(official, None, None, None)
        raise CheckpointError(
            f"{directory} has no config.json: a model directory holds the keyword arguments of cn_clip's CLIP "
            "or transformers' configuration there, beside model.safetensors, pytorch_model.bin or a .pt file"
        )
    architecture, config = _architecture_in(directory)
    officials = OFFICIAL_MODELS.values()
    filename = next((official.filename for official in officials if official.architecture == architecture), None)
    of_transformers = is_transformers_config(read_config(directory))
    first, *rest = weights_in(directory, filename, pt_first=of_transformers)
    return Checkpoint(first, architecture, config, tuple(rest))


def _official_file_in(directory: Path) -> Path | None:
    """Return the official weight file in a directory; None if there are none or several."""
    paths = [directory / official.filename for official in OFFICIAL_MODELS.values()]
    found = [path for path in paths if path.is_file()]
    return found[0] if len(found) == 1 else None


def _architecture_in(directory: Path) -> tuple[str, dict[str, Any]]:
    """Return the name of the architecture and the keyword arguments of cn_clip's ``CLIP`` from ``config.json``."""
    config = read_config(directory)
    if is_transformers_config(config):
        translated = clip_config(config, directory / CONFIG)
        for official in OFFICIAL_MODELS.values():
            named = _named_config(official.vision_model_name, official.text_model_name)
            if _without_training(named) == _without_training(translated):
                # The same name as for weights loaded by name, because it is part of the fingerprint in stores.
                return official.architecture, named
        config = translated
    lacking = [key for key in ("embed_dim", "image_resolution") if not isinstance(config, dict) or key not in config]
    if lacking:
        raise CheckpointError(
            f"{directory / CONFIG} is not a configuration of cn_clip's CLIP, nor of transformers' ChineseCLIPModel: it "
            f"lacks {' and '.join(lacking)}; fetch it again"
        )
    architecture = f"CLIP-{config['image_resolution']}px-{config['embed_dim']}d"
    try:
        return architecture, _with_layers_as_list(config)
    except ValueError as error:
        raise CheckpointError(f"{directory / CONFIG} has no list of numbers as vision_layers: {error}") from None


def _without_training(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration without the values that only matter in training."""
    training = ("text_attention_probs_dropout_prob", "text_hidden_dropout_prob", "text_initializer_range")
    return {"vision_head_width": 64, **{name: value for name, value in config.items() if name not in training}}


def _read_state_dict(checkpoint: Checkpoint) -> Tensors:
    state: Tensors = {}
    for path in checkpoint.files:
        if path.suffix != ".json":
            state |= find_state_dict(read_weights_file(path), path)
    return state


def _matching_weights(state: Tensors, model: CLIP, checkpoint: Checkpoint) -> Tensors:
    """Return the tensors by cn_clip's names and in the model's dtypes; refuse those of another architecture."""
    expected = model.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    missing: list[str] | None = None
    if is_transformers_state(state):
        state, missing = cn_clip_tensors(state, expected)
    # A scalar may have been saved with shape (1,).
    weights = {
        name: tensor.reshape(shapes[name]) if tensor.numel() == 1 and name in shapes and not shapes[name] else tensor
        for name, tensor in state.items()
    }
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    difference = mismatch(found, shapes, missing)
    if difference:
        raise CheckpointError(f"the weights in {checkpoint.path} are not of {checkpoint.architecture}: {difference}")
    return {name: tensor.to(expected[name].dtype) for name, tensor in weights.items()}
