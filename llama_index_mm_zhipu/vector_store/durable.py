"""``DurableStore``: the files of a vector store, its settings, and its index."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from llama_index.core.bridge.pydantic import BaseModel, Field, PrivateAttr
from typing_extensions import Self

from llama_index_mm_zhipu.arguments import KnownFields, as_path, explicit_arguments
from llama_index_mm_zhipu.shared_folders import PRIVATE
from llama_index_mm_zhipu.vector_store.ann import AUTO
from llama_index_mm_zhipu.vector_store.async_calls import AsyncCallsInThreads
from llama_index_mm_zhipu.vector_store.database import Database
from llama_index_mm_zhipu.vector_store.errors import ModelMismatchError, StoreError
from llama_index_mm_zhipu.vector_store.index_cache import IndexCache
from llama_index_mm_zhipu.vector_store.schema import Setting
from llama_index_mm_zhipu.vector_store.sessions import Writer

logger = logging.getLogger(__name__)

_NAME_IN_STORAGE = "__vector_store.json"


class DurableStore(KnownFields, AsyncCallsInThreads):
    """A vector store that is opened from files, or in memory, and closed. Its subclass adds and finds nodes."""

    stores_text: bool = True
    is_embedding_query: bool = True
    persist_dir: str | None = Field(default=None, description="Folder of the store; None for memory.")
    namespace: str = Field(default="default", description="Name of the file in the folder.", pattern=r"^[\w.-]+$")
    mode: int = Field(default=PRIVATE, description="Permissions of the folder, if it is created.")
    index_type: Literal["auto"] | None = Field(default=None, description="Whether to choose the index type by size.")
    model: str | None = Field(default=None, description="Fingerprint of the embedding model.")
    recall: float = Field(
        default=0.99, gt=0, le=1, description="Share of the nearest vectors that an approximate index is to find."
    )

    _database: Database = PrivateAttr()
    _cache: IndexCache = PrivateAttr()

    def __init__(self, persist_dir: str | Path | None = None, **kwargs: Any) -> None:
        if persist_dir is not None:
            # Checked, but kept as given: another user's "~" is another folder.
            as_path(persist_dir, "persist_dir")
            persist_dir = str(persist_dir)
        super().__init__(persist_dir=persist_dir, **kwargs)
        folder = self._folder
        path = folder / f"{self.namespace}.sqlite3" if folder is not None else None
        settings = {Setting.MODEL: self.model} if self.model is not None else {}
        self._database = Database(path, self.mode, settings)
        try:
            self._cache = IndexCache(
                self._database, folder, self.namespace, auto=self.index_type == AUTO, recall=self.recall
            )
            self._database.remove_stale_vector_files()
            if self.model is not None:
                self.require_model(self.model)
        except BaseException:
            self._database.close()
            raise

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Open the same files again, as unpickling does."""
        if self.persist_dir is None:
            raise TypeError("a store in memory cannot be copied; give it a persist_dir, or copy its nodes")
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields})

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the settings only: unpickling opens the same files."""
        if self.persist_dir is None:
            raise TypeError("a store in memory cannot be pickled; give it a persist_dir")
        # LlamaIndex's method would try to pickle the open database, and log that it cannot.
        return {**BaseModel.__getstate__(self), "__pydantic_private__": None}

    @classmethod
    @explicit_arguments
    def from_persist_dir(
        cls,
        persist_dir: str | Path,
        namespace: str = "default",
        *,
        index_type: Literal["auto"] | None = None,
        model: str | None = None,
    ) -> Self:
        """Open the store in a folder.

        Args:
            persist_dir: The folder.
            namespace: Name of the file.
            index_type: As in the constructor.
            model: As in the constructor.

        Raises:
            FileNotFoundError: The folder has no such store.

        Examples:
            >>> build_index(nodes, embed_model, persist_dir="storage").close()
            >>> FaissMultiModalVectorStore.from_persist_dir("storage", namespace="image").count()
            12
        """
        path = as_path(persist_dir, "persist_dir") / f"{namespace}.sqlite3"
        return cls.from_persist_path(path, index_type=index_type, model=model)

    @classmethod
    @explicit_arguments
    def from_persist_path(
        cls, persist_path: str | Path, *, index_type: Literal["auto"] | None = None, model: str | None = None
    ) -> Self:
        """Open the store in a ``.sqlite3`` file.

        Args:
            persist_path: The file.
            index_type: As in the constructor.
            model: As in the constructor.

        Raises:
            FileNotFoundError: There is no such file.

        Examples:
            >>> FaissMultiModalVectorStore("storage").close()
            >>> FaissMultiModalVectorStore.from_persist_path("storage/default.sqlite3").is_empty()
            True
        """
        path = as_path(persist_path, "persist_path")
        if not path.is_file():
            raise FileNotFoundError(f"no vector store at {path}; build one there first")
        return cls(persist_dir=path.parent, namespace=path.stem, index_type=index_type, model=model)

    def get_setting(self, key: str) -> Any:
        """Return a setting recorded in the store, or None.

        Examples:
            >>> index.image_store.get_setting("caption_weight"), index.image_store.get_setting("unknown")
            (0.5, None)
        """
        with self._database.reading() as reader:
            return reader.get_setting(key)

    def settings(self) -> dict[str, Any]:
        """Return the settings that belong to the nodes by key: the embedding model, and what ``add`` recorded.

        Examples:
            >>> sorted(index.image_store.settings())
            ['caption_weight', 'embed_model', 'model', 'precision']
        """
        with self._database.reading() as reader:
            recorded = reader.settings()
        return {key: recorded[key] for key in recorded if key not in Setting.OF_THE_FILE and recorded[key] is not None}

    def dimension(self) -> int | None:
        """Return the dimension of the vectors; None if the store never had one.

        Examples:
            >>> index.image_store.dimension(), FaissMultiModalVectorStore().dimension()
            (256, None)
        """
        dimension: int | None = self.get_setting(Setting.DIMENSION)
        return dimension

    def state_id(self) -> str:
        """Return a text that changes with every change of nodes, whichever process makes it.

        Examples:
            >>> before = index.image_store.state_id()
            >>> index.image_store.delete_nodes([nodes[0].node_id])
            >>> index.image_store.state_id() == before
            False
        """
        with self._database.reading() as reader:
            return "/".join(map(str, (reader.get_setting(Setting.STORE_ID), *reader.last_changes())))

    @property
    def is_read_only(self) -> bool:
        """Whether the file may only be read."""
        return self._database.is_read_only

    def set_setting(self, key: str, value: Any) -> None:
        """Record a setting, any JSON value.

        Examples:
            >>> store = FaissMultiModalVectorStore()
            >>> store.set_setting("catalogue", {"year": 2025})
            >>> store.get_setting("catalogue")
            {'year': 2025}
        """
        with self._database.writing() as writer:
            writer.set_settings({key: value})

    def require_model(self, fingerprint: str) -> None:
        """Record the embedding model of an empty store; once it has nodes, check that the model is the same.

        Args:
            fingerprint: Identifies the weights that made the vectors; not a path.

        Raises:
            ModelMismatchError: The vectors in the store were made by another model.

        Examples:
            >>> store = FaissMultiModalVectorStore()
            >>> store.require_model(embed_model.fingerprint)
            >>> store.get_setting("model") == embed_model.fingerprint
            True
        """
        if self.get_setting(Setting.MODEL) != fingerprint:
            with self._database.writing() as writer:
                self._record_model(writer, fingerprint)
        self.model = fingerprint

    def reindex(self, index_type: str = AUTO, show_progress: bool = False) -> None:
        """Build an index of another type from the stored vectors, and use it from now on.

        Other threads can query and add nodes meanwhile, with the present index. Other processes keep their index type
        until they open the store again.

        Args:
            index_type: ``"flat"``: exact, in time proportional to the number of vectors, which are all in memory.
                ``"ivf"``: approximate; 72 bytes of memory for a vector, a millisecond for a million. ``"hnsw"``: a
                graph; approximate, slow to build, and memory for the graph in addition to the vectors. A string of
                faiss's index factory, such as ``"IVF1024,SQ8"``; if it compresses vectors, its candidates are scored
                again with the original vectors. ``"auto"``: flat or ivf by the number of nodes, now and later.
            show_progress: Show a progress bar.

        Raises:
            ValueError: faiss does not know the type, or cannot restrict its search as filters need, or there are too
                few vectors to train it.

        Examples:
            >>> from llama_index.core.vector_stores import VectorStoreQuery
            >>> index.image_store.reindex("hnsw")
            >>> query = VectorStoreQuery(embed_model.get_text_embedding("红苹果"), similarity_top_k=1)
            >>> [node.text for node in index.image_store.query(query).nodes]
            ['红苹果']
        """
        self._cache.reindex(index_type, show_progress)

    async def areindex(self, index_type: str = AUTO, show_progress: bool = False) -> None:
        """Run ``reindex`` in a worker thread."""
        await asyncio.to_thread(self.reindex, index_type, show_progress)

    def wait_for_index(self) -> None:
        """Wait until an index that is being built in the background is in use; queries go on without it meanwhile.

        Examples:
            >>> store = FaissMultiModalVectorStore(index_type="auto")
            >>> store.wait_for_index()
        """
        self._cache.wait()

    def persist(self, persist_path: str | None = None, fs: Any = None) -> None:
        """Write the faiss cache, so that the next opening is fast; or copy the store to another folder.

        Nodes are on disk without it. ``StorageContext.persist(folder)`` calls it with a ``.json`` path in that folder.
        Such a file is never written, because LlamaIndex would read it as JSON.

        Args:
            persist_path: None or a path in the store's own folder writes the cache. A path in another folder copies the
                store there, as ``<namespace>.sqlite3``. ``StorageContext`` puts the namespace into the path,
                ``image__vector_store.json``; with other paths, the copy has the store's own namespace.
            fs: Must be None or a local file system, as SQLite needs a local file.

        Raises:
            ValueError: The store is in memory and no path is given, or ``fs`` is a remote file system.
            StoreError: The files cannot be written, or the other folder has another store of that name, or a copy of
                this one that has changed since.

        Examples:
            >>> index.image_store.persist("copy/image__vector_store.json")
            >>> FaissMultiModalVectorStore("copy", namespace="image").count()
            12
        """
        target = as_path(persist_path, "persist_path") if persist_path is not None else None
        folder = target.parent if target is not None else self._folder
        if folder is None:
            raise ValueError("the store is in memory: give persist_path, or open it with persist_dir")
        if fs is not None and "file" not in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
            raise ValueError(f"a vector store lives on a local disk, not on {type(fs).__name__}")
        if target is not None and (self._folder is None or folder.resolve() != self._folder.resolve()):
            namespace = target.name.removesuffix(_NAME_IN_STORAGE) if target.name.endswith(_NAME_IN_STORAGE) else ""
            self._database.backup(folder / f"{namespace or self.namespace}.sqlite3", self.mode)
            return
        with self._database.reading() as reader:
            self._cache.follow(reader)
        self._cache.write()
        self._database.checkpoint()

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file, and write the faiss cache if opening would be slow without it.

        ``persist`` always writes the cache. After up to 1,000 changes, reading them again takes a few milliseconds.

        Examples:
            >>> store = FaissMultiModalVectorStore("store")
            >>> store.checkpoint()
        """
        with self._database.reading() as reader:
            self._cache.follow(reader)
        if self._cache.is_far_ahead:
            self._cache.write()
        self._database.checkpoint()

    def close(self) -> None:
        """Write the faiss cache and close the file; the store cannot be used any more.

        Examples:
            >>> store = FaissMultiModalVectorStore("store")
            >>> store.close()
            >>> store.count()
            Traceback (most recent call last):
                ...
            llama_index_mm_zhipu.vector_store.errors.StoreError: the vector store ... is closed; open it again
        """
        if self._database.is_closed:
            return
        self._cache.stop()
        try:
            if self._folder is not None:
                with self._database.reading() as reader:
                    self._cache.follow(reader)
                if self._cache.is_far_ahead or not self._cache.has_file:
                    self._cache.write()
        except StoreError as error:
            # A full disk must not prevent closing.
            logger.warning("the store %s is closed without its faiss cache: %s", self._name, error)
        finally:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _folder(self) -> Path | None:
        return Path(self.persist_dir).expanduser() if self.persist_dir is not None else None

    @property
    def _name(self) -> str:
        return str(self._database.path or f"{self.namespace!r} (in memory)")

    def _record_model(self, writer: Writer, fingerprint: str) -> None:
        recorded = writer.get_setting(Setting.MODEL)
        if recorded == fingerprint:
            return
        if recorded is not None and not writer.is_empty():
            raise ModelMismatchError(
                f"the store {self._name} was filled with the model {recorded}, not with {fingerprint}; "
                "open it with that model, or build the index again in another folder"
            )
        writer.set_settings({Setting.MODEL: fingerprint})
