"""Captions of a data set, gathered before its pictures are read."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Captions:
    """Captions by picture id, a line each, and where each id was named first."""

    by_id: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def add(self, image_id: str, text: str, place: str) -> None:
        """Add a caption."""
        self.places.setdefault(image_id, place)
        self.by_id[image_id] = "\n".join(filter(None, [self.by_id.get(image_id), text.strip()]))
