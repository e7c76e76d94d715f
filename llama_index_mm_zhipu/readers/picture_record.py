"""Nodes of readers: each is a document of its own, whose hash follows the picture's content."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from llama_index.core.schema import ImageNode

from llama_index_mm_zhipu.prompts.wording import WORDING

CONTENT_HASH = "content_hash"
"""Metadata key of the SHA-256 of a picture's bytes, hidden from LLMs and embedding models."""

SOURCE_ROOT = "source_root"
"""Metadata key of the folder or file that an image was read from; hidden from both, too."""

SOURCE_LOCATION = "source_location"
"""Metadata key of the path of an image, or of the source that holds it with its id; hidden from both, too."""

RESERVED_KEYS = frozenset(
    {CONTENT_HASH, SOURCE_ROOT, SOURCE_LOCATION, *(wording.metadata_key for wording in WORDING.values())}
)
"""Metadata keys that this package writes itself, so that data may not be called so."""


class PictureRecord(ImageNode):
    """An ``ImageNode`` that LlamaIndex's ``IngestionPipeline`` finds changed when its picture, caption or metadata did.

    The hash of a plain one depends on the path, and metadata is what the pipeline's cache tells nodes apart by.
    """

    @classmethod
    def of(
        cls, node_id: str, digest: str | None, *, metadata: dict[str, Any] | None = None, **fields: Any
    ) -> ImageNode:
        """Make a node.

        Args:
            node_id: Its id, and that of the document which it is: ``delete_ref_doc(node_id)`` removes it.
            digest: Of the picture's content, if known.
            metadata: What else to say of it.
            **fields: Of ``ImageNode``.
        """
        hidden = [CONTENT_HASH] if digest is not None else []
        return cls(
            id_=node_id,
            metadata={**(metadata or {}), **dict.fromkeys(hidden, digest)},
            excluded_llm_metadata_keys=hidden,
            excluded_embed_metadata_keys=hidden,
            **fields,
        )

    @property
    def hash(self) -> str:
        """Hash of id, content, path, caption and metadata."""
        # The id, as docstores list documents by hash: equal pictures would be one to them.
        metadata = json.dumps(self.metadata, ensure_ascii=False, sort_keys=True, default=str)
        identity = f"{self.node_id}-{super().hash}-{metadata}"
        return hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()


def content_hash(data: bytes) -> str:
    """Return the SHA-256 of a picture's bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
