"""Zero-shot figures that Chinese-CLIP's authors published, to compare one's own with.

Source: https://github.com/OFA-Sys/Chinese-CLIP/blob/master/Results.md
"""

from __future__ import annotations

from typing import NamedTuple


class PublishedRecall(NamedTuple):
    """Recall at 1, 5 and 10, in percent.

    Attributes:
        text_to_image: Texts asked, pictures found.
        image_to_text: Pictures asked, texts found; None where it was not published.
    """

    text_to_image: tuple[float, float, float]
    image_to_text: tuple[float, float, float] | None = None


PUBLISHED: dict[str, dict[str, PublishedRecall]] = {
    "muge": {
        "RN50": PublishedRecall((42.6, 68.6, 77.9)),
        "ViT-B-16": PublishedRecall((52.1, 76.7, 84.4)),
        "ViT-L-14": PublishedRecall((56.3, 79.8, 86.2)),
        "ViT-L-14-336": PublishedRecall((59.0, 81.4, 87.8)),
        "ViT-H-14": PublishedRecall((63.0, 84.1, 89.2)),
    },
    "flickr30k-cn": {
        "RN50": PublishedRecall((48.8, 76.0, 84.6), (60.0, 85.9, 92.0)),
        "ViT-B-16": PublishedRecall((62.7, 86.9, 92.8), (74.6, 93.5, 97.1)),
        "ViT-L-14": PublishedRecall((68.0, 89.7, 94.4), (80.2, 96.6, 98.2)),
        "ViT-L-14-336": PublishedRecall((69.0, 90.7, 95.4), (83.3, 97.2, 98.5)),
        "ViT-H-14": PublishedRecall((71.2, 91.4, 95.5), (81.6, 97.5, 98.8)),
    },
    "coco-cn": {
        "RN50": PublishedRecall((48.1, 81.3, 90.5), (51.6, 81.2, 90.5)),
        "ViT-B-16": PublishedRecall((62.2, 86.6, 94.9), (57.0, 84.1, 93.6)),
        "ViT-L-14": PublishedRecall((64.0, 89.2, 94.4), (60.4, 84.2, 92.9)),
        "ViT-L-14-336": PublishedRecall((64.7, 89.6, 94.6), (63.4, 87.2, 94.4)),
        "ViT-H-14": PublishedRecall((69.2, 89.9, 96.1), (63.0, 86.6, 92.9)),
    },
}
"""By data set and model: MUGE's validation split, the test splits of the others."""
