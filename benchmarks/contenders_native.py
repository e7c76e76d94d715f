"""Embedded stores that are called through their own API, because LlamaIndex has no store for them that works."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from contender import COLLECTION, FEW, Contender, K
from dataset import DIMENSION, FILTERS, Batch
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

_KEYS = [key for key, _ in FILTERS.values()]
_DOCUMENT, _TEXT, _VECTOR = "ref_doc_id", "text", "embedding"


class Zvec(Contender):
    """Zvec with a flat index, which ``optimize`` builds, and inverted indexes of the metadata."""

    modules = ("zvec",)
    install = "zvec"
    remark = "own API, returns rows: no LlamaIndex store exists"

    # Zvec refuses larger batches.
    _batch: ClassVar[int] = 1024

    def open(self, folder: Path) -> None:
        import zvec

        path = folder / COLLECTION
        self.store = zvec.open(str(path)) if path.exists() else zvec.create_and_open(str(path), self._schema())

    def index(self) -> Any:
        """Return the description of the vector index."""
        import zvec

        return zvec.FlatIndexParam(metric_type=zvec.MetricType.IP)

    def parameters(self) -> Any:
        """Return the parameters of queries; None for the defaults."""
        return None

    def close(self) -> None:
        self.store.close()

    def settle(self) -> None:
        self.store.optimize()

    def add(self, batch: Batch) -> None:
        import zvec

        documents = [
            zvec.Doc(
                id=node.node_id,
                vectors={_VECTOR: node.embedding},
                fields={_TEXT: node.text, _DOCUMENT: node.ref_doc_id, **node.metadata},
            )
            for node in batch.nodes
        ]
        for start in range(0, len(documents), self._batch):
            for status in self.store.insert(documents[start : start + self._batch]):
                if not status.ok():
                    raise RuntimeError(f"Zvec refused a node: {status.message()}")

    def prepare(self, vector: np.ndarray, filters: MetadataFilters | None = None) -> Any:
        import zvec

        conditions = [f"{key} = '{value}'" for key, value in _equalities(filters)]
        return zvec.Query(_VECTOR, vector=vector, param=self.parameters()), " and ".join(conditions) or None

    def query(self, prepared: Any, **options: Any) -> Any:
        query, condition = prepared
        return self.store.query(query, topk=K, filter=condition)

    def ids(self, answer: Any) -> list[str]:
        return [document.id for document in answer]

    def delete(self, document_id: str) -> None:
        self.store.delete_by_filter(f"{_DOCUMENT} = '{document_id}'")

    def _schema(self) -> Any:
        import zvec

        text = zvec.DataType.STRING
        indexed = [zvec.FieldSchema(key, text, index_param=zvec.InvertIndexParam()) for key in (_DOCUMENT, *_KEYS)]
        vector = zvec.VectorSchema(_VECTOR, zvec.DataType.VECTOR_FP32, DIMENSION, self.index())
        return zvec.CollectionSchema(COLLECTION, fields=[zvec.FieldSchema(_TEXT, text), *indexed], vectors=vector)


class ZvecHNSW(Zvec):
    """Zvec with the graph that it builds by default."""

    remark = "as zvec-flat; approximate (HNSW, M 50, efConstruction 500, ef 300)"
    max_nodes = FEW
    why_not_more = "building its graph of 100,000 nodes takes 190 s of processor time"

    def index(self) -> Any:
        import zvec

        return zvec.HnswIndexParam(metric_type=zvec.MetricType.IP)


class ZvecInt8(Zvec):
    """Zvec with a smaller graph of 8-bit vectors, which is built faster; candidates are ranked by the whole vectors."""

    remark = "as zvec-flat; approximate (HNSW of int8 vectors, M 16, efConstruction 100, ef 300, re-scored)"

    def index(self) -> Any:
        import zvec

        return zvec.HnswIndexParam(
            metric_type=zvec.MetricType.IP, m=16, ef_construction=100, quantize_type=zvec.QuantizeType.INT8
        )

    def parameters(self) -> Any:
        import zvec

        return zvec.HnswQueryParam(is_using_refiner=True)


class DuckDB(Contender):
    """DuckDB through SQL, without an index of the vectors: each query scans their column."""

    modules = ("duckdb", "pyarrow")
    install = "duckdb pyarrow"
    remark = (
        "own API, takes columns, returns rows: LlamaIndex's store needs DuckDB before 1.4, and downloads extensions "
        "whenever it is opened"
    )

    def open(self, folder: Path) -> None:
        import duckdb

        self._connection = duckdb.connect(str(folder / f"{COLLECTION}.duckdb"))
        columns = ", ".join(f"{name} varchar" for name in (_TEXT, _DOCUMENT, *_KEYS))
        self._connection.execute(
            f"create table if not exists {COLLECTION} (id varchar primary key, {columns}, {_VECTOR} float[{DIMENSION}])"
        )

    def close(self) -> None:
        self._connection.close()

    def add(self, batch: Batch) -> None:
        import pyarrow as pa

        nodes = batch.nodes
        columns = {
            "id": [node.node_id for node in nodes],
            _TEXT: [node.text for node in nodes],
            _DOCUMENT: [node.ref_doc_id for node in nodes],
            **{key: [node.metadata[key] for node in nodes] for key in _KEYS},
            _VECTOR: pa.FixedSizeListArray.from_arrays(batch.vectors.ravel(), DIMENSION),
        }
        self._connection.from_arrow(pa.table(columns)).insert_into(COLLECTION)

    def prepare(self, vector: np.ndarray, filters: MetadataFilters | None = None) -> Any:
        equalities = _equalities(filters)
        where = " and ".join(f"{key} = ?" for key, _ in equalities)
        statement = (
            f"select id, {', '.join((_TEXT, _DOCUMENT, *_KEYS))}, "
            f"array_inner_product({_VECTOR}, ?::float[{DIMENSION}]) as score from {COLLECTION} "
            f"{where and 'where ' + where} order by score desc limit {K}"
        )
        return statement, [vector.tolist(), *(value for _, value in equalities)]

    def query(self, prepared: Any, **options: Any) -> Any:
        return self._connection.execute(*prepared).fetchall()

    def ids(self, answer: Any) -> list[str]:
        return [row[0] for row in answer]

    def delete(self, document_id: str) -> None:
        self._connection.execute(f"delete from {COLLECTION} where {_DOCUMENT} = ?", [document_id])


def _equalities(filters: MetadataFilters | None) -> list[tuple[str, Any]]:
    """Return key and value of each filter: all filters of the data set are equalities."""
    return [(each.key, each.value) for each in (filters.filters if filters else ()) if isinstance(each, MetadataFilter)]
