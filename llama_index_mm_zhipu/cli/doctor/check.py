"""What a check reports, and what checks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from llama_index_mm_zhipu.cli.doctor.wording import Wording

if TYPE_CHECKING:
    from llama_index_mm_zhipu.embedding.chinese_clip.official_models import OfficialModel

Status: TypeAlias = Literal["ok", "warning", "failed"]
"""``"failed"``: the package, or the part that was checked, does not work; ``"warning"``: it works with limits."""

GIB = 1 << 30
MIB = 1 << 20

_STATUSES: tuple[Status, ...] = ("ok", "warning", "failed")


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: Key of the check for programs, such as ``"torch"``; the same in all languages.
        title: Name of the check for people.
        status: How the check ended.
        detail: What was found, on one line.
        advice: What to do, on one line; empty if the status is ``"ok"``.
    """

    name: str
    title: str
    status: Status
    detail: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the attributes as a dictionary that can be written as JSON."""
        return asdict(self)


class Finding(NamedTuple):
    """What a check function returns: a ``Check`` without its names."""

    status: Status
    detail: str
    advice: str = ""


@dataclass
class Context:
    """What the checks of one run are given, and what the earlier ones leave for the later ones.

    Attributes:
        store: Folder of the index; None if none was given.
        model: Name or path of the model.
        is_default_model: Whether the model was not given.
        words: The texts of the language.
        online: Whether hosts may be asked.
        device: Device that torch computes on (``"cpu"``, ``"cuda"``, ``"mps"``); empty until torch was imported.
        missing_weights: The official model whose weight file is yet to be downloaded.
        architecture: Architecture of the model; empty if unknown.
        fingerprint: Architecture and hash of the weights; empty if the weights are not here.
    """

    store: Path | None
    model: str
    is_default_model: bool
    words: Wording
    online: bool = True
    device: str = ""
    missing_weights: OfficialModel | None = None
    architecture: str = ""
    fingerprint: str = ""


def joined(findings: Sequence[Finding], words: Wording) -> Finding:
    """Return several findings as one: the worst status with the first advice for it, and all details."""
    worst = max(findings, key=lambda finding: _STATUSES.index(finding.status))
    return Finding(worst.status, words.semicolon.join(finding.detail for finding in findings), worst.advice)


def size_text(size: int) -> str:
    """Return a number of bytes in GiB or MiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.1f} MiB"
