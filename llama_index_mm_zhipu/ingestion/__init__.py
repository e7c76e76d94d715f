"""Components for LlamaIndex's ingestion pipelines: captions and texts of images, and repair of docstores."""

from __future__ import annotations

from llama_index.core.storage.docstore.types import BaseDocumentStore

from llama_index_mm_zhipu.ingestion.captioner import CaptionCacheError, ImageCaptioner
from llama_index_mm_zhipu.ingestion.glm_ocr import GlmOcrEngine
from llama_index_mm_zhipu.ingestion.ocr import ImageOcr, OcrCacheError
from llama_index_mm_zhipu.ingestion.ocr_engines import OcrEngine, OcrLine, RapidOcrEngine
from llama_index_mm_zhipu.ingestion.ocr_workers import OcrEngineError, OcrWorkerError
from llama_index_mm_zhipu.stores import ExternalVectorStore
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore

__all__ = [
    "CaptionCacheError",
    "GlmOcrEngine",
    "ImageCaptioner",
    "ImageOcr",
    "OcrCacheError",
    "OcrEngine",
    "OcrEngineError",
    "OcrLine",
    "OcrWorkerError",
    "RapidOcrEngine",
    "forget_missing",
]


def forget_missing(
    docstore: BaseDocumentStore, vector_store: FaissMultiModalVectorStore | ExternalVectorStore
) -> list[str]:
    """Delete the documents from a docstore that the vector store lacks, so that a pipeline ingests them again.

    A pipeline deletes changed documents from the vector store before it embeds them. If embedding fails and the
    documents change back, or if images were skipped, the docstore lists documents that are not stored, and the pipeline
    would never ingest them again.

    Args:
        docstore: Docstore of an ``IngestionPipeline``.
        vector_store: Vector store of the same pipeline. Other stores than the embedded one read all of their nodes.

    Returns:
        The ids of the deleted documents.

    Examples:
        >>> from llama_index.core.ingestion import IngestionPipeline
        >>> from llama_index.core.storage.docstore import SimpleDocumentStore
        >>> from llama_index_mm_zhipu.ingestion import forget_missing
        >>> docstore, store = SimpleDocumentStore(), FaissMultiModalVectorStore()
        >>> pipeline = IngestionPipeline(transformations=[embed_model], docstore=docstore, vector_store=store)
        >>> _ = pipeline.run(documents=nodes[:3])
        >>> store.delete(nodes[0].node_id)
        >>> forget_missing(docstore, store) == [nodes[0].node_id]
        True
    """
    missing = sorted(set(docstore.get_all_document_hashes().values()) - set(vector_store.document_ids()))
    for document_id in missing:
        docstore.delete_document(document_id, raise_error=False)
    return missing
