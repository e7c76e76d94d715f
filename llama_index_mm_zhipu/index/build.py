"""``build_index`` and ``load_index``: make an index of images and texts, with its stores and models."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path

from llama_index.core import Settings, StorageContext
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import TransformComponent
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from llama_index_mm_zhipu.arguments import as_path, explicit_arguments, in_range, require_choice
from llama_index_mm_zhipu.embedding.contract import fingerprint_of, for_long_texts
from llama_index_mm_zhipu.index.fill import INSERT_BATCH_SIZE, IndexReader, fill_index
from llama_index_mm_zhipu.index.multimodal import ImageIndex
from llama_index_mm_zhipu.index.read import IndexInput
from llama_index_mm_zhipu.index.settings import (
    multimodal_or_default,
    record_lost_model,
    recorded_model,
    recorded_weight,
    warn_of_other_precision,
)
from llama_index_mm_zhipu.index.stores import IMAGE_NAMESPACE, TEXT_NAMESPACE, as_index_store, open_store
from llama_index_mm_zhipu.ingestion.ocr import ImageOcr, as_ocr, ocr_to_follow
from llama_index_mm_zhipu.reporting import report
from llama_index_mm_zhipu.stores import ExternalVectorStore
from llama_index_mm_zhipu.text import counted
from llama_index_mm_zhipu.types import OnError
from llama_index_mm_zhipu.vector_store import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store.contract import IndexStore

logger = logging.getLogger(__name__)


@explicit_arguments
def build_index(
    nodes_or_documents: IndexInput,
    embed_model: MultiModalEmbedding | None = None,
    *,
    persist_dir: str | Path | None = None,
    image_store: BasePydanticVectorStore | None = None,
    text_store: BasePydanticVectorStore | None = None,
    image_storage: str | Path | None = None,
    text_embed_model: BaseEmbedding | None = None,
    caption_weight: float | None = None,
    on_error: OnError = "raise",
    remove_missing: bool = False,
    transformations: list[TransformComponent] | None = None,
    ocr: bool | ImageOcr = False,
    insert_batch_size: int = INSERT_BATCH_SIZE,
    show_progress: bool = False,
) -> ImageIndex:
    """Index images and texts, durably if a folder is given.

    Images and texts are in two stores of one folder. Building an index again keeps what is stored and embeds only what
    is new or has changed: an image with the same content and caption keeps its vector, even if its folder was moved or
    renamed. Images of different folders or files never replace each other; other nodes replace the node with their id.

    Args:
        nodes_or_documents: A folder of images, as ``read_folder`` takes it; images in any form (paths, URLs,
            ``bytes``, ``PIL.Image``); image nodes or documents, with captions as their text or without; text nodes,
            and text documents, which are split; or any number of these. Documents that ``SimpleDirectoryReader`` made
            of image files are indexed as these images. Iterators, such as ``reader.lazy_load_data(…)``, are streamed
            in batches of ``insert_batch_size``, so memory use does not grow with the data set.
        embed_model: Model for images and words, usually ``ChineseClipEmbedding``; by default ``Settings.embed_model``
            if that is a multimodal one.
        persist_dir: Folder of the stores that are not given; None keeps them in memory.
        image_store: Any vector store of LlamaIndex for images, such as ``PGVectorStore``, instead of the one in
            ``persist_dir``. It is wrapped in an ``ExternalVectorStore``.
        text_store: The same for texts; it needs a collection of its own. If only one of the two is given, and no
            folder, nodes for the other are an error.
        image_storage: Where inline images go that are written to ``image_store``: ``"node"``, the default, keeps them
            in the store; a folder or a URL of ``fsspec`` (``"s3://bucket/folder"``) beside it.
        text_embed_model: Model for text nodes; by default ``embed_model``, with long texts as the mean over windows.
        caption_weight: Share of the caption in a captioned image's vector, 0 to 1. None takes 0.5 when every image
            has a caption, and otherwise 0, with captions found by full text; the store records it. (If captions were
            averaged into some vectors only, captioned images would rank before all others. For iterators, and for
            images that come with vectors, None takes 0, because it is not known whether all have captions.)
        on_error: ``"raise"`` at the first image that cannot be read, or ``"skip"`` such images, log them and list them
            in ``index.skipped``.
        remove_missing: Whether to delete images and texts whose files no longer exist in the given folders, or in the
            folders that the given nodes were read from, and old parts of the given texts' files. Nodes of other
            folders, and nodes without a file, stay. A missing folder, or one that cannot be listed, is an error, and
            nothing is deleted.
        transformations: Applied to documents; by default ``Settings.transformations``, the sentence splitter. Images
            pass through those that split no text, such as ``ImageCaptioner``.
        ocr: True reads the text in images by ``ImageOcr()``, after the transformations, so that full text search finds
            them; it needs the extra ``ocr``. Give an ``ImageOcr`` for other settings. Images that cannot be read are
            indexed without their text, and images without text as they are.
        insert_batch_size: How many nodes are embedded and written together, 256 by default.
        show_progress: Whether to show progress bars.

    Returns:
        A ``MultiModalVectorStoreIndex``.

    Raises:
        ImageError: An image cannot be read. The images before it are stored, as they are after Ctrl-C.
        ModelMismatchError: The folder or a store was filled with another model.
        StoreError: The server of a store cannot be reached, or refuses a call; what it acknowledged is stored.
        TypeError: There is no multimodal embedding model, or an item is neither a node nor an image.
        PermissionError: nltk refuses the data of the text splitter; the message tells how to install it.
        OSError: With ``remove_missing``, a folder cannot be listed.
        ValueError: There is nothing to index, a store cannot be used like this, or ``persist_dir`` is given and would
            hold nothing.

    Examples:
        Images with captions, in memory; then images without captions, in a folder:

        >>> index = build_index(nodes, embed_model)
        >>> [result.node.text for result in index.as_retriever(similarity_top_k=1).retrieve("红苹果")]
        ['红苹果']
        >>> build_index("images", embed_model, persist_dir="storage").image_store.count()
        12
    """
    require_choice(on_error, "on_error", "raise", "skip")
    in_range(caption_weight, "caption_weight", 0, 1)
    if insert_batch_size < 1:
        raise ValueError(f"insert_batch_size is {insert_batch_size}; it must be at least 1")
    embed_model = multimodal_or_default(embed_model)
    reader = IndexReader(
        nodes_or_documents,
        on_error=on_error,
        remove_missing=remove_missing,
        batch_size=insert_batch_size,
        show_progress=show_progress,
    )
    index = build_from_reader(
        reader,
        embed_model,
        persist_dir=persist_dir,
        image_store=image_store,
        text_store=text_store,
        image_storage=image_storage,
        text_embed_model=text_embed_model,
        caption_weight=caption_weight,
        transformations=transformations,
        ocr=ocr,
        insert_batch_size=insert_batch_size,
    )
    if index.kept:
        report(f"Kept {counted(index.kept, 'image')} (unchanged).")
    if remove_missing:
        report(f"Removed {counted(index.removed_images, 'image')} (file gone).")
    if index.removed_texts:
        report(f"Removed {counted(index.removed_texts, 'text')} (file gone or changed).")
    return index


def build_from_reader(
    reader: IndexReader,
    embed_model: MultiModalEmbedding,
    *,
    persist_dir: str | Path | None = None,
    image_store: BasePydanticVectorStore | None = None,
    text_store: BasePydanticVectorStore | None = None,
    image_storage: str | Path | None = None,
    text_embed_model: BaseEmbedding | None = None,
    caption_weight: float | None = None,
    transformations: list[TransformComponent] | None = None,
    ocr: bool | ImageOcr = False,
    insert_batch_size: int = INSERT_BATCH_SIZE,
) -> ImageIndex:
    """Open or create an index and fill it with what a reader reads; ``build_index`` documents the other arguments.

    Args:
        reader: Reads what is to be indexed.
        embed_model: As in ``build_index``, like the rest.
        persist_dir: Folder of the stores that are not given.
        image_store: Store for images.
        text_store: Store for texts.
        image_storage: Where inline images go.
        text_embed_model: Model for texts.
        caption_weight: Share of captions in vectors.
        transformations: Applied to documents.
        ocr: Whether the text in images is read.
        insert_batch_size: How many nodes are written together.
    """
    image_ocr = _ocr_for(embed_model, ocr, reader.show_progress)
    with ocr_to_follow(image_ocr is not None):
        # Nothing is created if there is nothing to index.
        _ = reader.first
    index = _open_index(
        persist_dir,
        image_store=image_store,
        text_store=text_store,
        image_storage=image_storage,
        embed_model=embed_model,
        text_embed_model=text_embed_model,
        caption_weight=caption_weight,
        on_error=reader.on_error,
        transformations=transformations,
        ocr=image_ocr,
        insert_batch_size=insert_batch_size,
        show_progress=reader.show_progress,
    )
    try:
        fill_index(index, reader)
    except BaseException:
        # Notebooks keep the last error and every object that it refers to, open files too. Given stores stay open.
        for store, given in ((index.image_store, image_store), (index.text_store, text_store)):
            if given is None:
                store.close()
        raise
    return index


@explicit_arguments
def load_index(
    persist_dir: str | Path | None = None,
    embed_model: MultiModalEmbedding | None = None,
    *,
    image_store: BasePydanticVectorStore | None = None,
    text_store: BasePydanticVectorStore | None = None,
    image_storage: str | Path | None = None,
    text_embed_model: BaseEmbedding | None = None,
    on_error: OnError = "raise",
    transformations: list[TransformComponent] | None = None,
    ocr: bool | ImageOcr = False,
    insert_batch_size: int = INSERT_BATCH_SIZE,
    show_progress: bool = False,
) -> ImageIndex:
    """Open an index that ``build_index`` wrote.

    Args:
        persist_dir: The folder given to ``build_index``; None if all stores are given.
        embed_model: Model that the index was built with; by default ``Settings.embed_model`` if that is a multimodal
            one, else the one that the index recorded, if that was a ``ChineseClipEmbedding``. With its model given, an
            index whose model was moved remembers the new path.
        image_store: The store given to ``build_index``, as are the next two.
        text_store: As in ``build_index``.
        image_storage: As in ``build_index``.
        text_embed_model: Text model that the index was built with, if one was given.
        on_error: As in ``build_index``, for later insertions, like the rest of the arguments.
        transformations: Applied to documents that are inserted.
        ocr: Whether the text in images that are inserted is read, as in ``build_index``; it is not recorded.
        insert_batch_size: How many nodes are embedded and written together, 256 by default.
        show_progress: Whether insertions show progress bars.

    Raises:
        FileNotFoundError: There is no index in the folder, or not the part that belongs there; or the recorded model is
            at a path that does not exist any more.
        ModelMismatchError: The index was built with another model.
        StoreError: The server of a store cannot be reached.
        TypeError: There is no multimodal embedding model, or neither a folder nor a store is given.
        ValueError: A store cannot be used like this; ``image_store`` and ``text_store`` are swapped, or both are given
            and a folder besides.

    Examples:
        >>> build_index(nodes, embed_model, persist_dir="storage").close()
        >>> index = load_index("storage")
        >>> [result.node.text for result in index.as_retriever(similarity_top_k=1).retrieve("红苹果")]
        ['红苹果']
    """
    is_recorded = embed_model is None and not isinstance(Settings._embed_model, MultiModalEmbedding)
    if not is_recorded:
        embed_model = multimodal_or_default(embed_model)
    if persist_dir is None and image_store is None and text_store is None:
        raise TypeError("load_index needs the folder of the index, or its image_store and text_store")
    if persist_dir is not None and image_store is None and not has_index(persist_dir):
        raise FileNotFoundError(_no_index_in(as_path(persist_dir, "persist_dir")))
    if persist_dir is not None and image_store is not None and text_store is None:
        _require_texts_in(as_path(persist_dir, "persist_dir"))
    if is_recorded:
        embed_model = _recorded_model(persist_dir, image_store)
    embed_model = multimodal_or_default(embed_model)
    return _open_index(
        persist_dir,
        image_store=image_store,
        text_store=text_store,
        image_storage=image_storage,
        embed_model=embed_model,
        text_embed_model=text_embed_model,
        caption_weight=None,
        on_error=on_error,
        transformations=transformations,
        ocr=_ocr_for(embed_model, ocr, show_progress),
        insert_batch_size=insert_batch_size,
        show_progress=show_progress,
    )


def create_index(
    persist_dir: str | Path, embed_model: MultiModalEmbedding, *, on_error: OnError = "raise", ocr: bool = False
) -> ImageIndex:
    """Create an empty index in a folder, and open it; ``build_index`` creates one for what it is given.

    Args:
        persist_dir: The folder.
        embed_model: Model for images and words.
        on_error: As in ``load_index``.
        ocr: As in ``load_index``.
    """
    return _open_index(
        persist_dir,
        image_store=None,
        text_store=None,
        image_storage=None,
        embed_model=embed_model,
        text_embed_model=None,
        caption_weight=None,
        on_error=on_error,
        transformations=None,
        ocr=_ocr_for(embed_model, ocr, show_progress=False),
        insert_batch_size=INSERT_BATCH_SIZE,
        show_progress=False,
    )


def _recorded_model(
    persist_dir: str | Path | None, image_store: BasePydanticVectorStore | None
) -> MultiModalEmbedding | None:
    if image_store is not None:
        return recorded_model(as_index_store(image_store))
    if persist_dir is None:
        return None
    store = FaissMultiModalVectorStore.from_persist_dir(persist_dir, namespace=IMAGE_NAMESPACE)
    try:
        return recorded_model(store)
    finally:
        store.close()


def _require_texts_in(folder: Path) -> None:
    if not (folder / f"{TEXT_NAMESPACE}.sqlite3").is_file():
        raise FileNotFoundError(f"no texts of an index in {folder}; give the persist_dir that build_index was given")


def has_index(persist_dir: str | Path) -> bool:
    """Return whether ``build_index`` has begun an index in a folder."""
    return (as_path(persist_dir, "persist_dir") / f"{IMAGE_NAMESPACE}.sqlite3").is_file()


def _open_index(
    persist_dir: str | Path | None,
    *,
    image_store: BasePydanticVectorStore | None,
    text_store: BasePydanticVectorStore | None,
    image_storage: str | Path | None,
    embed_model: MultiModalEmbedding,
    text_embed_model: BaseEmbedding | None,
    caption_weight: float | None,
    on_error: OnError,
    transformations: list[TransformComponent] | None,
    ocr: ImageOcr | None,
    insert_batch_size: int,
    show_progress: bool,
) -> ImageIndex:
    if text_embed_model is not None and not isinstance(text_embed_model, BaseEmbedding):
        raise TypeError(f"text_embed_model is {text_embed_model!r:.80}; give one of LlamaIndex's embedding models")
    _require_two_stores(image_store, text_store, image_storage)
    _require_use_of_folder(persist_dir, image_store, text_store)
    # Weights are read and hashed once, before the model is copied for texts.
    fingerprint_of(embed_model)
    text_embed_model = text_embed_model or for_long_texts(embed_model)
    with ExitStack() as opened:
        # If one store cannot be used, the other one is closed. Given stores stay open.
        images = open_store(
            image_store,
            persist_dir,
            argument="image_store",
            other=text_store,
            image_storage=image_storage,
            model=embed_model,
        )
        if image_store is None:
            opened.callback(images.close)
        texts = open_store(
            text_store,
            persist_dir,
            argument="text_store",
            other=image_store,
            image_storage=None,
            model=text_embed_model,
        )
        if text_store is None:
            opened.callback(texts.close)
        _require_two_collections(images, texts)
        _require_no_images_among_texts(texts)
        index = ImageIndex(
            nodes=[],
            storage_context=StorageContext.from_defaults(vector_store=texts),
            image_vector_store=images,
            embed_model=text_embed_model,
            image_embed_model=embed_model,
            caption_weight=caption_weight,
            on_error=on_error,
            transformations=transformations,
            ocr=ocr,
            insert_batch_size=insert_batch_size,
            show_progress=show_progress,
        )
        warn_of_other_precision(images, embed_model)
        record_lost_model(images, embed_model)
        opened.pop_all()
    return index


def _require_two_stores(
    image_store: BasePydanticVectorStore | None,
    text_store: BasePydanticVectorStore | None,
    image_storage: str | Path | None,
) -> None:
    if image_store is not None and image_store is text_store:
        raise ValueError("image_store and text_store are the same; images and texts need a collection each")
    if image_storage is not None and (image_store is None or isinstance(image_store, IndexStore)):
        raise ValueError(
            "image_storage is for an image_store that is given and not wrapped yet: the embedded store keeps images "
            "itself, and ExternalVectorStore(store, image_storage=…) takes its own"
        )


def _require_use_of_folder(
    persist_dir: str | Path | None,
    image_store: BasePydanticVectorStore | None,
    text_store: BasePydanticVectorStore | None,
) -> None:
    if persist_dir is not None and image_store is not None and text_store is not None:
        raise ValueError("persist_dir is not used if both image_store and text_store are given; leave it out")


def _require_no_images_among_texts(texts: IndexStore) -> None:
    # Only images have this setting.
    if recorded_weight(texts) is not None:
        raise ValueError(f"text_store holds the images of an index ({texts}); swap image_store and text_store")


def _require_two_collections(images: object, texts: object) -> None:
    if not isinstance(images, ExternalVectorStore) or not isinstance(texts, ExternalVectorStore):
        return
    if images.collection is not None and images.collection == texts.collection:
        raise ValueError(f"image_store and text_store are both {images}; images and texts need a collection each")


def _ocr_for(embed_model: MultiModalEmbedding, ocr: bool | ImageOcr, show_progress: bool) -> ImageOcr | None:
    """Return what reads the text in images; it may fetch images that the model may fetch."""
    allowed = {name: bool(getattr(embed_model, name, False)) for name in ("allow_urls", "allow_private_urls")}
    return as_ocr(ocr, show_progress=show_progress, **allowed)


def _no_index_in(folder: Path) -> str:
    namespaces = sorted(file.stem for file in folder.glob("*.sqlite3"))
    if not namespaces:
        return f"no index in {folder}; build one there with build_index(…, persist_dir=…)"
    listed = ", ".join(map(repr, namespaces))
    return (
        f"no index in {folder}: it holds a store with the namespace {listed}, and an index has one with "
        f"{IMAGE_NAMESPACE!r}; give the image_store that the index was built with, open the store with "
        "FaissMultiModalVectorStore.from_persist_dir, or build an index with build_index(…, persist_dir=…)"
    )
