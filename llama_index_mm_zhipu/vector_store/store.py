"""``FaissMultiModalVectorStore``: an embedded, durable vector store for text and image nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQuery

from llama_index_mm_zhipu.arguments import as_ids, require_known, require_positive
from llama_index_mm_zhipu.shared_folders import PRIVATE
from llama_index_mm_zhipu.vector_store.columns import NewColumns
from llama_index_mm_zhipu.vector_store.conditions import EVERY_NODE, AnyCondition, of_document, one_of
from llama_index_mm_zhipu.vector_store.contract import ScoredQueryResult
from llama_index_mm_zhipu.vector_store.durable import DurableStore
from llama_index_mm_zhipu.vector_store.faiss_indexes import FLAT
from llama_index_mm_zhipu.vector_store.filters import compiled, resolve
from llama_index_mm_zhipu.vector_store.metadata_tables import MetadataExample, MetadataValues
from llama_index_mm_zhipu.vector_store.nodes import NewNodes, NewRows
from llama_index_mm_zhipu.vector_store.predicates import predicate_of_nodes, predicate_of_query
from llama_index_mm_zhipu.vector_store.ranking import QueryOptions, Ranking
from llama_index_mm_zhipu.vector_store.recall import RecallReport, measure_recall
from llama_index_mm_zhipu.vector_store.schema import Setting
from llama_index_mm_zhipu.vector_store.vector_file import Vectors, evenly_spaced
from llama_index_mm_zhipu.vector_store.vector_search import FaissSearch


class FaissMultiModalVectorStore(DurableStore):
    """Vector store for text and image nodes: faiss searches the vectors, SQLite holds everything.

    When a call returns, its changes are on disk and survive a crash of the process or a power cut. The SQLite file
    ``<persist_dir>/<namespace>.sqlite3`` holds the nodes, and the ``.vectors`` file beside it their vectors; keep both
    together. A ``.faiss`` file, which only some index types have, is a cache that ``persist`` and ``close`` write, and
    that is rebuilt if it is missing or damaged. Threads and processes may share a store. They see each other's changes
    at their next call, and writers wait for each other. Async calls run in a worker thread.

    Scores are inner products: cosines if vectors are of unit length. All methods raise a ``StoreError`` if the file
    cannot be read or written. There is no ``__len__``, because LlamaIndex would take an empty store for a missing one.

    Args:
        persist_dir: Folder of the store, created if missing; None keeps everything in memory.
        namespace: Name of the file; a folder may hold several stores.
        mode: Permissions of the folder and its parents, if they are created; by default ``0o700``, which gives access
            to the owner alone.
        index_type: None keeps the choice of the last ``reindex``. Without one, and with ``"auto"``, the number of
            vectors decides: they are searched flat, and beyond 100,000 in an index of type ``"ivf"``, which is built in
            the background.
        model: Fingerprint of the embedding model, such as ``ChineseClipEmbedding.fingerprint``. It is checked as by
            ``require_model`` when the store is opened and when nodes are added.
        recall: Share of the true nearest nodes that searches in an index of type ``"ivf"`` are to find. When such an
            index is built, vectors of the store are taken as queries to find out how much a search must look at;
            ``check_recall`` measures the result.

    Raises:
        StoreError: The file cannot be opened.
        ModelMismatchError: The vectors in the store were made by another model.

    Examples:
        >>> from llama_index.core.schema import TextNode
        >>> from llama_index.core.vector_stores import VectorStoreQuery
        >>> store = FaissMultiModalVectorStore("store")
        >>> store.add([TextNode(id_="a", text="飞机", embedding=[1.0, 0.0]), TextNode(id_="b", embedding=[0.0, 1.0])])
        ['a', 'b']
        >>> found = store.query(VectorStoreQuery(query_embedding=[0.5, 0.0], similarity_top_k=1))
        >>> found.ids, found.similarities
        (['a'], [0.5])
    """

    def __init__(
        self,
        persist_dir: str | Path | None = None,
        *,
        namespace: str = "default",
        mode: int = PRIVATE,
        index_type: Literal["auto"] | None = None,
        model: str | None = None,
        recall: float = 0.99,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            persist_dir, namespace=namespace, mode=mode, index_type=index_type, model=model, recall=recall, **kwargs
        )

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex serialises this component."""
        return "FaissMultiModalVectorStore"

    @property
    def client(self) -> Any:
        """The faiss index; None while the store never had a vector."""
        return self._cache.index.faiss_index if self._cache.index is not None else None

    @property
    def lists_nodes(self) -> bool:
        """Whether ``get_nodes`` finds nodes by metadata: True."""
        return True

    @property
    def searches_text(self) -> bool:
        """True: the store has full text search."""
        return True

    def count(self) -> int:
        """Return the number of nodes.

        Examples:
            >>> index.image_store.count(), FaissMultiModalVectorStore().count()
            (12, 0)
        """
        with self._database.reading() as reader:
            self._cache.follow(reader)
            return len(self._cache.index) if self._cache.index is not None else 0

    def is_empty(self) -> bool:
        """Return whether the store holds no node.

        Examples:
            >>> index.image_store.is_empty(), index.text_store.is_empty()
            (False, True)
        """
        return self.count() == 0

    def has_texts(self) -> bool:
        """Return whether full text can find any node: SQLite has FTS5, and a node has a text.

        Examples:
            >>> index.image_store.has_texts(), index.text_store.has_texts()
            (True, False)
        """
        with self._database.reading() as reader:
            return reader.has_texts()

    def document_ids(self) -> list[str]:
        """Return the ids of the documents that nodes came from; a node without a source is its own document.

        Examples:
            >>> len(index.image_store.document_ids())
            12
        """
        with self._database.reading() as reader:
            return reader.document_ids()

    def metadata_keys(self) -> list[str]:
        """Return the keys under which any node has metadata other than None, in order.

        Examples:
            >>> index.image_store.metadata_keys()
            ['content_hash', 'file_name', 'source_location', 'source_root', '价格']
        """
        with self._database.reading() as reader:
            return reader.metadata_keys()

    def metadata_texts(self, key: str) -> dict[str, str]:
        """Return the texts under a metadata key by node id, without reading the nodes.

        Examples:
            >>> sorted(index.image_store.metadata_texts("file_name").values())[:2]
            ['apple.jpg', 'car.jpg']
        """
        with self._database.reading() as reader:
            return reader.metadata_texts(key)

    def image_paths(self) -> dict[str, str]:
        """Return ``image_path`` by node id for the images that are files, without reading the nodes.

        Examples:
            >>> from pathlib import Path
            >>> sorted(Path(path).name for path in index.image_store.image_paths().values())[:2]
            ['apple.jpg', 'car.jpg']
        """
        with self._database.reading() as reader:
            return reader.image_paths()

    def metadata_examples(self, key: str) -> list[MetadataExample]:
        """Return examples of the values under a metadata key, in a time that does not depend on the number of nodes.

        Args:
            key: Metadata key.

        Returns:
            At most one each of: a number, a text, a number in a list, a text in a list. Empty if no node has the key.

        Examples:
            >>> index.image_store.metadata_examples("价格")
            [MetadataExample(value=10, is_text=False, is_item=False)]
        """
        with self._database.reading() as reader:
            return reader.metadata_examples(key)

    def metadata_values(self, key: str, limit: int) -> MetadataValues:
        """Return values under a metadata key, in a time that does not depend on the number of nodes.

        Args:
            key: Metadata key.
            limit: How many texts at most.

        Returns:
            Texts in order, and the smallest and the largest number.

        Examples:
            >>> index.image_store.metadata_values("file_name", limit=2)
            MetadataValues(texts=['apple.jpg', 'car.jpg'], numbers=[])
        """
        with self._database.reading() as reader:
            return reader.metadata_values(key, limit)

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        include_embeddings: bool = False,
        include_images: bool = True,
    ) -> list[BaseNode]:
        """Return the nodes that have one of the ids and meet the filters; all nodes if neither is given.

        Args:
            node_ids: Ids of the nodes; unknown ids are ignored.
            filters: Conditions on the metadata of the nodes.
            include_embeddings: Whether to return nodes with their vectors, so that another store can add them.
            include_images: Whether to read inline images.

        Returns:
            Nodes in the order of ``node_ids``, or in the order in which they were added.

        Examples:
            >>> from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
            >>> expensive = MetadataFilters(filters=[MetadataFilter(key="价格", value=100, operator=">=")])
            >>> [node.text for node in index.image_store.get_nodes(filters=expensive)]
            ['连衣裙', '男鞋']
        """
        node_ids = as_ids(node_ids, "node_ids")
        condition = compiled(predicate_of_nodes(node_ids, filters))
        with self._database.reading() as reader:
            ids = reader.select_ids(resolve(condition, reader))
            nodes = list(reader.nodes(ids.tolist(), include_images).values())
            if include_embeddings:
                for node, vector in zip(nodes, reader.vectors_of(ids), strict=True):
                    node.embedding = vector.tolist()
        if node_ids is None:
            return nodes
        by_id = {node.node_id: node for node in nodes}
        return [by_id[node_id] for node_id in dict.fromkeys(node_ids) if node_id in by_id]

    def iter_nodes(
        self, batch_size: int = 256, *, include_embeddings: bool = True, after: str | None = None
    ) -> Iterator[list[BaseNode]]:
        """Yield all nodes in the order of addition, in batches; no more than one batch is held in memory.

        Each batch is read in a transaction of its own, so that writers are not held up. A node that is not changed
        until the end is yielded once. Nodes that are added meanwhile come last, and so do those that are replaced, of
        which the earlier version may have been yielded before. ``state_id`` tells whether anything was changed.

        Args:
            batch_size: Maximum number of nodes in a batch.
            include_embeddings: Whether to return nodes with their vectors.
            after: Id of a node; the nodes after it are yielded.

        Raises:
            ValueError: ``batch_size`` is not above 0, or there is no node with the id ``after``.

        Examples:
            >>> [len(batch) for batch in index.image_store.iter_nodes(batch_size=5)]
            [5, 5, 2]
        """
        require_positive(batch_size, "batch_size")
        last = 0
        if after is not None:
            with self._database.reading() as reader:
                found = reader.row_id_of(after)
            if found is None:
                raise ValueError(f"the store {self._name} has no node {after!r:.80} to begin after")
            last = found
        return self._batches_after(last, batch_size, include_embeddings)

    def with_images_inline(self, nodes: Sequence[BaseNode]) -> list[BaseNode]:
        """Return the nodes: their inline images are in them already.

        Examples:
            >>> stored = index.image_store.get_nodes()
            >>> index.image_store.with_images_inline(stored) == stored
            True
        """
        return list(nodes)

    def get_nodes_of_document(self, ref_doc_id: str) -> list[BaseNode]:
        """Return the nodes of a document in the order of addition; a node without a source is its own document.

        Examples:
            >>> [node.text for node in index.image_store.get_nodes_of_document(nodes[0].node_id)]
            ['红苹果']
        """
        with self._database.reading() as reader:
            return list(reader.nodes(reader.select_ids(of_document(ref_doc_id)).tolist()).values())

    def get_vectors(self, node_ids: Sequence[str]) -> tuple[list[str], Vectors]:
        """Return the stored vectors of nodes.

        Args:
            node_ids: Ids of the nodes; unknown ids are ignored.

        Returns:
            The known node ids in the order of addition, and their vectors, float32 of shape ``(n, dimension)``.

        Examples:
            >>> ids, vectors = index.image_store.get_vectors([node.node_id for node in nodes[:3]])
            >>> len(ids), vectors.shape, vectors.dtype
            (3, (3, 256), dtype('float32'))
        """
        with self._database.reading() as reader:
            return reader.vectors_of_nodes(as_ids(node_ids, "node_ids") or [])

    def query(
        self,
        query: VectorStoreQuery,
        *,
        search_breadth: int | None = None,
        mmr_threshold: float | None = None,
        mmr_prefetch_factor: float | None = None,
        mmr_prefetch_k: int | None = None,
        **kwargs: Any,
    ) -> ScoredQueryResult:
        """Find nodes by vector, by words, or by both.

        Modes:

        - ``DEFAULT`` ranks by inner product with ``query_embedding``.
        - ``MMR`` selects among the nearest nodes by maximum marginal relevance, with LlamaIndex's own function. Nodes
          are in the order of selection, and scores are marginal relevances. ``mmr_threshold``, of the query or as an
          argument, is 1 for relevance alone, 0 for variety alone, and 0.5 by default.
        - ``TEXT_SEARCH`` ranks by BM25 (with k1 = 1.2 and b = 0.75, as FTS5 of SQLite) of the words of ``query_str`` in
          the texts of nodes. Chinese and symbols (emoji, ``€``, ``①``) are found by single characters and by pairs of
          neighbours, other words as a whole and by their letters and digits. ``SPARSE`` is the same.
        - ``HYBRID`` fuses both rankings, by default by their scores with a weight that depends on the query: the text
          weighs more if the best text has many of the query's words, and if its lead is clear (module ``fusion``).
          Scores are 0 to 1. With ``alpha``, 0 to 1, it fuses by reciprocal ranks; the score is ``alpha / (60 + rank by
          vector) + (1 - alpha) / (60 + rank by text)``, ranks from 1; 60 is the constant of Cormack, Clarke and
          Büttcher (2009). ``sparse_top_k`` is the number of nodes of the text ranking, ``hybrid_top_k`` that of the
          result, by default ``similarity_top_k``.

        Args:
            query: The above, ``similarity_top_k``, and restrictions: ``filters``, ``node_ids``, ``doc_ids``. The mode
                may be a string such as ``"sparse"``. Empty ``doc_ids`` find no node. Empty ``node_ids`` are no
                restriction, because LlamaIndex's own retriever passes them.
            search_breadth: How much of an approximate index is searched; more is slower and more exact. Lists that are
                scanned of an index of type ``"ivf"``, by default as many as ``recall`` needs; candidates that the
                search of a graph keeps (``"hnsw"``), 128 by default. A flat index is always exact.
            mmr_threshold: Threshold of ``MMR``; None takes that of the query.
            mmr_prefetch_factor: Candidates of ``MMR`` per wanted node, 4 by default.
            mmr_prefetch_k: Candidates of ``MMR`` in all, instead of ``mmr_prefetch_factor``.
            **kwargs: Unknown arguments are errors.

        Returns:
            Nodes, scores of the mode and node ids, best first; ``similarity_top_k`` of them if there are that many.
            Beside the scores of the mode, each node has its inner product with ``query_embedding``, and its share of
            the words of ``query_str``, in the modes that search by them.

        Raises:
            TypeError: An argument is unknown; the message suggests another one.
            ValueError: The query has no embedding, or one of the wrong dimension; or the mode is not supported.
            StoreError: A text mode was asked for and this Python's SQLite has no FTS5.

        Examples:
            >>> from llama_index.core.vector_stores import VectorStoreQuery
            >>> query = VectorStoreQuery(query_str="苹果", mode="text_search", similarity_top_k=5)
            >>> [node.text for node in index.image_store.query(query).nodes]
            ['红苹果', '青苹果']
        """
        require_known("FaissMultiModalVectorStore.query", kwargs, (*QueryOptions._fields, "search_breadth"))
        options = QueryOptions(mmr_threshold, mmr_prefetch_factor, mmr_prefetch_k)
        condition = compiled(predicate_of_query(query))
        with self._database.reading() as reader:
            self._cache.follow(reader)
            search = FaissSearch(
                reader, self._cache.index, resolve(condition, reader), self._cache.calibration, search_breadth
            )
            ranked = Ranking[int](search, options).rank(query)
            by_id = reader.nodes([each.id for each in ranked])
        nodes = [by_id[each.id] for each in ranked]
        return ScoredQueryResult(
            nodes=nodes,
            similarities=[each.score for each in ranked],
            ids=[node.node_id for node in nodes],
            inner_products=[each.similarity for each in ranked],
            words_found=[each.words_found for each in ranked],
        )

    def check_recall(
        self,
        queries: Sequence[Sequence[float]] | None = None,
        *,
        similarity_top_k: int = 10,
        sample: int = 200,
        search_breadth: int | None = None,
    ) -> RecallReport:
        """Measure how many of the true nearest nodes a search by vector finds, by comparing with all vectors.

        Args:
            queries: Vectors of queries, such as those of your users' questions; by default, vectors of the store
                itself, each without the node that it belongs to. Words find images less easily than images do.
            similarity_top_k: Number of nearest nodes.
            sample: Number of the store's own vectors that are taken as queries.
            search_breadth: As in ``query``.

        Returns:
            The mean share of the true nearest nodes that were found, 0 to 1, with index type and number of queries.

        Raises:
            ValueError: A query has another dimension than the store's vectors.

        Examples:
            >>> queries = embed_model.get_text_embedding_batch(["红苹果", "帆船"])
            >>> index.image_store.check_recall(queries, similarity_top_k=3)
            RecallReport(recall=1.0, index_type='flat', similarity_top_k=3, queries=2)
        """
        require_positive(similarity_top_k, "similarity_top_k")
        with self._database.reading() as reader:
            self._cache.follow(reader)
            index, dimension = self._cache.index, reader.get_setting(Setting.DIMENSION)
            if index is None:
                return RecallReport(1.0, FLAT, similarity_top_k, 0)
            if queries is None:
                own_ids = evenly_spaced(reader.select_ids(EVERY_NODE), sample)
                vectors = reader.vectors_of(own_ids)
            else:
                vectors = np.asarray(queries, dtype=np.float32)
                own_ids = np.zeros(len(vectors), np.int64)
                if vectors.ndim != 2 or vectors.shape[1] != dimension:
                    raise ValueError(
                        f"queries must be vectors of {dimension} numbers, the dimension of the store's vectors"
                    )
            search = FaissSearch(reader, index, EVERY_NODE, self._cache.calibration, search_breadth)
            recall = measure_recall(reader, search, vectors, own_ids, min(similarity_top_k, len(index)))
        return RecallReport(recall, index.index_type, similarity_top_k, len(vectors))

    def add(self, nodes: Sequence[BaseNode], *, settings: Mapping[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Add nodes with embeddings, all or none. A node replaces the stored node with the same id.

        Args:
            nodes: The nodes. Without any, nothing is written.
            settings: Settings to record in the same transaction, as by ``set_setting``.
            **kwargs: Unknown arguments are errors.

        Returns:
            The node ids, in order.

        Raises:
            ValueError: A node has no embedding, or one of the wrong dimension or with NaN; or an id is given twice.
            ModelMismatchError: The vectors in the store were made by another model in the meantime.
            StoreError: The file cannot be written.

        Examples:
            >>> from llama_index.core.schema import TextNode
            >>> store = FaissMultiModalVectorStore()
            >>> store.add([TextNode(id_="a", text="飞机", embedding=[1.0, 0.0])], settings={"caption_weight": 0.5})
            ['a']
            >>> store.add([TextNode(id_="b", text="火车", embedding=[1.0, 0.0, 0.0])])
            Traceback (most recent call last):
                ...
            ValueError: node b has a vector of dimension 3, the store's have 2; use the model that the store was
            filled with, nothing was added
        """
        require_known("FaissMultiModalVectorStore.add", kwargs, ("settings",))
        if not nodes:
            return []
        return self._add(lambda dimension: NewNodes(nodes, dimension), settings or {})

    def add_columns(
        self,
        vectors: npt.ArrayLike,
        *,
        node_ids: Sequence[str] | None = None,
        texts: Sequence[str] | None = None,
        image_paths: Sequence[str] | None = None,
        ref_doc_ids: Sequence[str] | None = None,
        metadata: Mapping[str, Sequence[Any]] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """Add many nodes from arrays, such as columns of a parquet file, all or none.

        This takes half the time of ``add``, because no node is made of each row. What is stored is the same. Call it
        once for some 10,000 to 100,000 rows: each call is one transaction.

        Args:
            vectors: Shape ``(n, dimension)``, of any number type; they are stored as float32.
            node_ids: Ids of the nodes, which replace stored nodes with the same ids; by default new ids.
            texts: Texts of the nodes, or captions of the images.
            image_paths: Paths of images: the nodes are ``ImageNode``. Without them they are ``TextNode``.
            ref_doc_ids: Ids of the documents that the nodes come from.
            metadata: Columns of values by metadata key, lists or arrays. None stands for no value.
            settings: Settings to record in the same transaction, as by ``set_setting``.

        Returns:
            The node ids, in order.

        Raises:
            ValueError: A column has another length than ``vectors``, a vector has another dimension than the store's or
                holds NaN, an id is given twice, or a value cannot be stored as JSON.
            ModelMismatchError: The vectors in the store were made by another model in the meantime.
            StoreError: The file cannot be written.

        Examples:
            >>> store = FaissMultiModalVectorStore()
            >>> vectors = [[1.0, 0.0], [0.0, 1.0]]
            >>> store.add_columns(vectors, node_ids=["a", "b"], texts=["飞机", "火车"], metadata={"page": [1, 2]})
            ['a', 'b']
        """
        array = np.asarray(vectors)
        if not len(array):
            return []

        def columns(dimension: int | None) -> NewColumns:
            return NewColumns(
                array,
                node_ids=node_ids,
                texts=texts,
                image_paths=image_paths,
                ref_doc_ids=ref_doc_ids,
                metadata=metadata or {},
                dimension=dimension,
            )

        return self._add(columns, settings or {})

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete all nodes of a document, if there are any; a node without a source is its own document.

        Examples:
            >>> store = index.image_store
            >>> store.delete(nodes[0].node_id)
            >>> store.count()
            11
        """
        require_known("FaissMultiModalVectorStore.delete", delete_kwargs, ())
        self._delete(of_document(ref_doc_id))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete the nodes that have one of the ids and meet the filters; unknown ids are ignored.

        Raises:
            ValueError: Neither is given, or only empty filters, which every node meets.

        Examples:
            >>> from llama_index.core.vector_stores import MetadataFilter, MetadataFilters
            >>> cheap = MetadataFilters(filters=[MetadataFilter(key="价格", value=10)])
            >>> index.image_store.delete_nodes(filters=cheap)
            >>> [node.text for node in index.image_store.get_nodes()]
            ['连衣裙', '女帽', '男鞋']
        """
        require_known("FaissMultiModalVectorStore.delete_nodes", delete_kwargs, ("node_ids", "filters"))
        if node_ids is None and not (filters and filters.filters):
            raise ValueError("delete_nodes needs node_ids or filters; clear() deletes every node")
        self._delete(compiled(predicate_of_nodes(as_ids(node_ids, "node_ids"), filters)))

    def clear(self) -> None:
        """Delete every node, and the recorded model, dimension, index type and other settings.

        Examples:
            >>> index.image_store.clear()
            >>> index.image_store.is_empty()
            True
        """
        with self._database.writing() as writer:
            writer.delete(EVERY_NODE)
            writer.clear_settings(keep=[Setting.FULL_TEXT, Setting.STORE_ID])
        self._database.remove_stale_vector_files()
        self._follow_own_change()

    def _batches_after(self, last: int, batch_size: int, include_embeddings: bool) -> Iterator[list[BaseNode]]:
        while True:
            with self._database.reading() as reader:
                ids, vectors = reader.vectors_after(last, batch_size)
                nodes = list(reader.nodes(ids.tolist()).values())
            if not nodes:
                return
            if include_embeddings:
                for node, vector in zip(nodes, vectors, strict=True):
                    node.embedding = vector.tolist()
            yield nodes
            last = int(ids[-1])

    def _add(self, new_rows: Callable[[int | None], NewRows], settings: Mapping[str, Any]) -> list[str]:
        """Insert what a function returns for the dimension of the store's vectors, which is None at first."""
        with self._database.writing() as writer:
            if self.model is not None:
                self._record_model(writer, self.model)
            dimension = writer.get_setting(Setting.DIMENSION)
            new = new_rows(dimension)
            if dimension is None:
                writer.set_settings({Setting.DIMENSION: new.vectors.shape[1]})
            writer.set_settings(settings)
            writer.delete(one_of("node_id", new.node_ids))
            writer.insert(new)
        self._follow_own_change()
        return new.node_ids

    def _delete(self, condition: AnyCondition) -> None:
        with self._database.writing() as writer:
            count = writer.delete(resolve(condition, writer))
        self._cache.follow_deletions(count)

    def _follow_own_change(self) -> None:
        with self._database.reading() as reader:
            self._cache.follow(reader)
            self._cache.rebuild_if_due()
