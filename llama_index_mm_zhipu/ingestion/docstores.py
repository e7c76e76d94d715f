"""What LlamaIndex's pipelines hold for done, and what a store really has."""

from __future__ import annotations

from llama_index.core.storage.docstore.types import BaseDocumentStore

from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore


def forget_missing(docstore: BaseDocumentStore, vector_store: FaissMultiModalVectorStore) -> list[str]:
    """Take documents that the store does not hold out of a docstore, so that a pipeline ingests them again.

    A pipeline deletes changed documents from the store before it embeds them. If that fails, and the documents change
    back, it would hold them for done for ever; so it does with images that were skipped.

    Args:
        docstore: Of an ``IngestionPipeline``.
        vector_store: Of the same.

    Returns:
        The ids of these documents.
    """
    missing = sorted(set(docstore.get_all_document_hashes().values()) - set(vector_store.document_ids()))
    for document_id in missing:
        docstore.delete_document(document_id, raise_error=False)
    return missing
