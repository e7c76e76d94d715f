"""Which weights a name stands for, and how they are loaded without running anything that they contain."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from llama_index_mm_zhipu.embedding.download import DownloadSource, official_file
from llama_index_mm_zhipu.embedding.errors import CheckpointError, in_one_line
from llama_index_mm_zhipu.embedding.official_models import DEFAULT_DOWNLOAD_ROOT, OFFICIAL_MODELS

if TYPE_CHECKING:
    import torch
    from cn_clip.clip.model import CLIP


FileState: TypeAlias = tuple[str, int, int]


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights and the architecture that they are for.

    Attributes:
        path: The file of weights, ``.pt`` or ``.safetensors``.
        struct: Name of the architecture, ``<vision>@<text>`` as in cn_clip.
        config: Keyword arguments of ``cn_clip.clip.model.CLIP``.
    """

    path: Path
    struct: str
    config: dict[str, Any]

    @property
    def input_resolution(self) -> int:
        """Side of the square pictures that the model takes, in pixels."""
        return int(self.config["image_resolution"])

    @property
    def embed_dim(self) -> int:
        """Dimension of the vectors."""
        return int(self.config["embed_dim"])

    @property
    def file_state(self) -> FileState:
        """Path, size in bytes and time of change in ns of the weights: what says cheaply that they are the same.

        Raises:
            CheckpointError: The file is gone.
        """
        try:
            found = self.path.stat()
        except OSError as error:
            raise CheckpointError(f"the weights {self.path} cannot be read any more: {error.strerror}") from None
        return str(self.path.resolve()), found.st_size, found.st_mtime_ns

    def fingerprint(self) -> str:
        """Return struct and SHA-256 of the weights: equal for equal models, wherever they lie."""
        return f"{self.struct} sha256:{_sha256(*self.file_state)[:16]}"

    def content_hash(self) -> str:
        """Return the hash of weights and architecture, 16 hexadecimal digits."""
        content = _sha256(*self.file_state) + json.dumps(self.config, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def find_checkpoint(
    model_name: str,
    *,
    download_root: str | Path = DEFAULT_DOWNLOAD_ROOT,
    download_source: DownloadSource = "huggingface",
    vision_model_name: str | None = None,
    text_model_name: str | None = None,
    input_resolution: int | None = None,
) -> Checkpoint:
    """Find the weights that a name stands for, fetching an official file that is not there yet.

    Args:
        model_name: One of ``OFFICIAL_MODELS``, a ``.pt`` file, or a directory with ``config.json`` (the keyword
            arguments of cn_clip's ``CLIP``) beside ``model.safetensors`` or one ``.pt`` file.
        download_root: Folder that holds, or receives, the official files.
        download_source: Where an official file is fetched from first. ``HF_ENDPOINT`` names a mirror of Hugging Face.
        vision_model_name: cn_clip's name of the picture tower; needed for a ``.pt`` file of another name than the
            official ones.
        text_model_name: cn_clip's name of the text tower; as above.
        input_resolution: Side of the pictures in pixels, where it differs from the tower's own.

    Raises:
        CheckpointError: The name is unknown, or the weights are not there and cannot be fetched.
    """
    if model_name in OFFICIAL_MODELS:
        official = OFFICIAL_MODELS[model_name]
        path = official_file(official, Path(download_root).expanduser(), download_source)
        return _named_checkpoint(path, official.vision_model_name, official.text_model_name, input_resolution)
    path = Path(model_name).expanduser()
    if path.is_dir():
        return _directory_checkpoint(path)
    if path.is_file():
        vision, text = _towers_of_file(path, vision_model_name, text_model_name)
        return _named_checkpoint(path, vision, text, input_resolution)
    raise CheckpointError(
        f"unknown model {model_name!r}: use one of {', '.join(OFFICIAL_MODELS)}, or the path of an existing "
        "directory or .pt file"
    )


def cn_clip_folder() -> Path:
    """Find cn_clip's files without importing it, which would load torch and torchvision."""
    spec = find_spec("cn_clip")
    if spec is None or not spec.submodule_search_locations:
        raise CheckpointError("cn_clip is not installed: pip install cn_clip")
    return Path(spec.submodule_search_locations[0])


def load_model(checkpoint: Checkpoint) -> CLIP:
    """Build cn_clip's model and fill it with the checkpoint's weights, on the CPU and in their own precision.

    Nothing in the file is executed (``weights_only=True``, or safetensors) and nothing is printed.

    Raises:
        CheckpointError: The file is damaged, holds more than tensors, or is of another architecture.
    """
    import torch
    from cn_clip.clip.model import CLIP, convert_weights

    # Built on the meta device: no time is spent on random weights that are overwritten at once.
    try:
        with torch.device("meta"):
            model = CLIP(**checkpoint.config)
    except Exception as error:
        detail = in_one_line(error)
        raise CheckpointError(f"cn_clip cannot build {checkpoint.struct} for {checkpoint.path}: {detail}") from None
    # Says which parameters stay fp32 (layer norms) when the rest is fp16.
    convert_weights(model)
    precisions = {name: parameter.dtype for name, parameter in model.state_dict().items()}
    weights = {
        name: tensor.to(precisions.get(name, tensor.dtype)) for name, tensor in _read_weights(checkpoint.path).items()
    }
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        detail = in_one_line(error, 300)
        raise CheckpointError(f"the weights in {checkpoint.path} are not of {checkpoint.struct}: {detail}") from None
    return model.eval().requires_grad_(False)


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, modified: int) -> str:
    """Hash a file of weights, once per process and state of the file."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _named_checkpoint(path: Path, vision: str, text: str, input_resolution: int | None) -> Checkpoint:
    config = {**_tower_config(vision), **_tower_config(text)}
    if isinstance(config["vision_layers"], str):
        config["vision_layers"] = json.loads(config["vision_layers"])
    if input_resolution is not None:
        config["image_resolution"] = input_resolution
    return Checkpoint(path, f"{vision}@{text}", config)


def _tower_config(name: str) -> dict[str, Any]:
    configs = cn_clip_folder() / "clip" / "model_configs"
    path = configs / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in configs.glob("*.json")))
        raise CheckpointError(f"cn_clip has no configuration named {name!r}; it has {known}")
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def _directory_checkpoint(directory: Path) -> Checkpoint:
    config_file = directory / "config.json"
    if not config_file.is_file():
        raise CheckpointError(
            f"{directory} has no config.json: a model directory holds the keyword arguments of cn_clip's CLIP "
            "there, beside model.safetensors or a .pt file"
        )
    try:
        config: dict[str, Any] = json.loads(config_file.read_text(encoding="utf-8"))
        struct = f"CLIP-{config['image_resolution']}px-{config['embed_dim']}d"
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{config_file} is not a configuration of cn_clip's CLIP: {error!r}") from None
    return Checkpoint(_weights_in(directory), struct, config)


def _weights_in(directory: Path) -> Path:
    safe = directory / "model.safetensors"
    if safe.is_file():
        return safe
    candidates = sorted(directory.glob("*.pt"))
    if len(candidates) != 1:
        found = ", ".join(path.name for path in candidates) or "none"
        raise CheckpointError(f"{directory} must hold model.safetensors or exactly one .pt file; found: {found}")
    return candidates[0]


def _towers_of_file(path: Path, vision: str | None, text: str | None) -> tuple[str, str]:
    for official in OFFICIAL_MODELS.values():
        if official.filename == path.name:
            return vision or official.vision_model_name, text or official.text_model_name
    if not (vision and text):
        raise CheckpointError(
            f"cannot tell the architecture of {path}: give vision_model_name and text_model_name, for example "
            'vision_model_name="ViT-B-16", text_model_name="RoBERTa-wwm-ext-base-chinese"'
        )
    return vision, text


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict, without the prefix of distributed training and the pooler that CLIP does not use."""
    import torch

    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pt(path)
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items()
    ):
        found = in_one_line(", ".join(map(str, content)))
        raise CheckpointError(f"{path} holds no state dict of tensors, by itself or as state_dict; found: {found}")
    return {name.removeprefix("module."): tensor for name, tensor in state.items() if "bert.pooler" not in name}


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}; fetch it again") from None


def _read_pt(path: Path) -> Mapping[str, Any]:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # torch advises here to load it unsafely.
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors; it was not loaded, fetch it again"
        ) from None
    except Exception as error:
        # Whatever a parser runs into in a file of another kind.
        detail = in_one_line(f"{type(error).__name__}: {error}", 160)
        raise CheckpointError(
            f"{path} is damaged or holds more than tensors ({detail}); it was not loaded, fetch it again"
        ) from None
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path} is not a checkpoint: it holds a {type(content).__name__}")
    return content
