"""Jobs, which a benchmark gives to a process for each stage, and their results on disk."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Job:
    """The stage that a process runs, and its parameters.

    Attributes:
        stage: Key of ``STAGES``.
        contender: Key of ``CONTENDERS``.
        size: Number of nodes.
        vectors: Type of the vectors.
        folder: Folder of the store.
        result: JSON file for the results.
        seed: Seed of the data set.
        queries: Number of queries that are measured.
        vary_filters: Whether each query filters by a different value.
        sizes: Sizes at which a growing store is measured.
    """

    stage: str
    contender: str
    size: int
    vectors: str
    folder: str
    result: str
    seed: int
    queries: int
    vary_filters: bool
    sizes: list[int] = field(default_factory=list)

    def to_json(self) -> str:
        """Return the job as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Return the job that ``to_json`` wrote."""
        return cls(**json.loads(text))


class Findings:
    """The results of a stage so far, written at each change because a process may be killed at its time limit.

    Args:
        job: Job of the stage.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._values: dict[str, Any] = {"notes": []}

    def update(self, **values: Any) -> None:
        """Add values to the results."""
        self._values.update(values)
        self._write()

    def say(self, text: str) -> None:
        """Print a progress message."""
        print(f"  [{self._job.contender}, {self._job.size:,} {self._job.vectors}] {text}", file=sys.stderr, flush=True)

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Record an error as a note, so that the measurements after it still run."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.note(f"{what} failed", error)

    def note(self, what: str, error: Exception) -> None:
        """Add an error to the notes."""
        self._values["notes"].append(f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        self._write()

    def _write(self) -> None:
        file = Path(self._job.result)
        new = file.with_suffix(".new")
        new.write_text(json.dumps(self._values), encoding="utf-8")
        new.replace(file)
