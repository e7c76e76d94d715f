"""Nodes with their vectors as Parquet files.

docs/en/guides/moving.md documents the columns, which other programs may write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from llama_index.core.schema import BaseNode

from llama_index_mm_zhipu.arguments import as_path
from llama_index_mm_zhipu.shared_folders import replaced_file
from llama_index_mm_zhipu.stores.image_storage import inline_image_of
from llama_index_mm_zhipu.stores.transfer.manifest import MANIFEST, Manifest, Precision, Shard, size_and_hash
from llama_index_mm_zhipu.text import one_line
from llama_index_mm_zhipu.vector_store.errors import StoreError
from llama_index_mm_zhipu.vector_store.nodes import NewNodes, NodeRow, node_from_row
from llama_index_mm_zhipu.vector_store.vector_file import Vectors

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    raise ImportError('Parquet files need pyarrow: pip install "llama-index-mm-zhipu[parquet]"') from None

ROWS_AT_A_TIME = 256
"""Maximum number of rows of a row group, which readers and writers hold in memory together."""

MAX_INLINE_IMAGES = 16 << 20
"""Size of the images in base64, in bytes, after which a row group ends, and a part of ``embed_dataset``."""

_VECTOR = "vector"
_TEXTS = ("node_id", "class_name", "content")
_REQUIRED = (*_TEXTS, _VECTOR)
_OPTIONAL = ("ref_doc_id", "image")
_COPY_AGAIN = "copy the file again, or export again; a second import continues here"


@dataclass(frozen=True)
class ShardRow:
    """A row of a shard.

    Attributes:
        node_id: LlamaIndex's id.
        class_name: LlamaIndex's name of the node's class.
        content: The node as JSON, without its vector and its inline image.
        image: Bytes of the inline image, if any.
        vector: Shape ``(dimension,)``.
    """

    node_id: str
    class_name: str
    content: str
    image: bytes | None
    vector: Vectors

    def node(self) -> BaseNode:
        """Return the node with its vector.

        Raises:
            ValueError: The content is not the JSON of a node of this class, or that of another node.
        """
        try:
            node = node_from_row(NodeRow(self.node_id, None, self.class_name, self.content, None), self.image)
        except Exception:
            # pydantic's and json's messages would show parts of the content.
            raise ValueError(
                f"node {one_line(self.node_id)} cannot be read: its content is not the JSON of a {self.class_name:.60}"
            ) from None
        if node.node_id != self.node_id:
            raise ValueError(f"node {one_line(self.node_id)} has the content of node {one_line(node.node_id)}")
        node.embedding = self.vector.tolist()
        return node


def nodes_to_table(nodes: Sequence[BaseNode], vectors: Precision = "float32") -> pa.Table:
    """Return nodes as rows of a shard, for programs that write shards themselves.

    Args:
        nodes: Nodes with embeddings, at least one.
        vectors: Type of the numbers of vectors.

    Raises:
        ValueError: A node has no embedding, one of another dimension than the others, or one with NaN or with numbers
            that are too large for ``vectors``; or an id is given twice.

    Examples:
        >>> from llama_index.core.schema import TextNode
        >>> from llama_index_mm_zhipu.stores import nodes_to_table
        >>> table = nodes_to_table([TextNode(id_="a", text="飞机", embedding=[1.0, 0.0])])
        >>> table.column_names
        ['node_id', 'ref_doc_id', 'class_name', 'content', 'image', 'vector']
    """
    new = NewNodes(nodes, None)
    rows, images = list(new.whole_rows()), dict(new.images())
    columns = [
        [row.node_id for row in rows],
        [row.ref_doc_id for row in rows],
        [row.class_name for row in rows],
        [row.content for row in rows],
        [images[row.image] if row.image is not None else None for row in rows],
        _vector_array(new, vectors),
    ]
    return pa.table(columns, schema=_schema(new.vectors.shape[1], vectors))


def write_shard(folder: Path, file: str, nodes: Iterable[BaseNode], dimension: int, vectors: Precision) -> Shard:
    """Write nodes to a file, which is complete or not there.

    Args:
        folder: An existing folder.
        file: Name of the file.
        nodes: Nodes with embeddings, of which one row group is held in memory.
        dimension: Dimension of the vectors.
        vectors: Type of the numbers of vectors.

    Raises:
        OSError: The file cannot be written.
        ValueError: As ``nodes_to_table``.
    """
    count = 0
    with replaced_file(folder / file) as opened:
        # Statistics of ids let other programs find nodes; those of contents would repeat them.
        options = {"compression": "zstd", "use_dictionary": ["class_name"], "write_statistics": ["node_id"]}
        with pq.ParquetWriter(opened, _schema(dimension, vectors), **options) as writer:
            for batch in _row_groups(nodes):
                writer.write_table(nodes_to_table(batch, vectors))
                count += len(batch)
        opened.flush()
        return Shard(file, count, *size_and_hash(opened))


def read_shard(folder: Path, shard: Shard, dimension: int | None, batch_size: int) -> Iterator[list[ShardRow]]:
    """Yield the rows of a file in batches, after checking its hash.

    Args:
        folder: Folder of the file.
        shard: What the manifest says of the file.
        dimension: Dimension of the vectors.
        batch_size: Maximum number of rows in a batch.

    Raises:
        StoreError: The file is missing, damaged, another one, or has other columns.
    """
    path = folder / shard.file
    try:
        with path.open("rb") as opened:
            if not shard.is_content_of(opened):
                raise StoreError(f"shard {path} is cut short, damaged or another file: {_COPY_AGAIN}")
            yield from _rows_of_file(path, opened, shard, dimension, batch_size)
    except FileNotFoundError:
        raise StoreError(f"shard {path} is missing: {_COPY_AGAIN}") from None
    except OSError as error:
        raise StoreError(f"shard {path} cannot be read: {error.strerror or error}") from None


def last_node_id(folder: Path, shard: Shard) -> str:
    """Return the id of the last node of an intact file."""
    with pq.ParquetFile(folder / shard.file) as parquet:
        ids = parquet.read_row_group(parquet.num_row_groups - 1, columns=["node_id"]).column("node_id")
        return str(ids[-1].as_py())


def write_manifest(folder: str | Path, *, settings: Mapping[str, Any]) -> Manifest:
    """Write the manifest of shards that another program wrote, so that ``import_index`` takes them.

    Args:
        folder: Folder with the shards: all files named ``*.parquet``, in the order of their names.
        settings: Settings of the store by key: ``"model"``, the fingerprint of the embedding model, such as
            ``ChineseClipEmbedding.fingerprint``, and ``"caption_weight"``, the share of captions in the vectors of
            images, 0 to 1.

    Returns:
        The manifest.

    Raises:
        StoreError: A file cannot be read, or has other columns or another dimension than the first one.
        ValueError: The folder has no shards, or it has a manifest already.

    Examples:
        >>> from pathlib import Path
        >>> import pyarrow.parquet as pq
        >>> from llama_index_mm_zhipu.stores import import_index, nodes_to_table, write_manifest
        >>> embedded = embed_nodes(nodes, embed_model)
        >>> Path("shards").mkdir()
        >>> pq.write_table(nodes_to_table(embedded), "shards/00000.parquet")
        >>> settings = {"model": embedded.fingerprint, "caption_weight": embedded.caption_weight}
        >>> manifest = write_manifest("shards", settings=settings)
        >>> import_index("shards", FaissMultiModalVectorStore(), show_progress=False).nodes
        12
    """
    folder = as_path(folder, "folder")
    if (folder / MANIFEST).exists():
        raise ValueError(f"{folder} has a manifest already; remove {MANIFEST} if it is not that of the shards there")
    described = [_described(path) for path in sorted(folder.glob("*.parquet"))]
    if not described:
        raise ValueError(f"{folder} has no files named *.parquet")
    shards, kinds = zip(*described, strict=True)
    for shard, kind in zip(shards, kinds, strict=True):
        if kind != kinds[0]:
            raise StoreError(
                f"shard {folder / shard.file} has {kind[1]} vectors of dimension {kind[0]}, {shards[0].file} has "
                f"{kinds[0][1]} of {kinds[0][0]}; vectors of different models do not go into one store"
            )
    dimension, vectors = kinds[0]
    manifest = Manifest(vectors, dimension, dict(settings), shards=shards, is_complete=True)
    manifest.save(folder)
    return manifest


# Columns


def _schema(dimension: int, vectors: Precision) -> pa.Schema:
    number = pa.float32() if vectors == "float32" else pa.float16()
    return pa.schema(
        [
            pa.field("node_id", pa.string(), nullable=False),
            pa.field("ref_doc_id", pa.string()),
            pa.field("class_name", pa.string(), nullable=False),
            pa.field("content", pa.string(), nullable=False),
            pa.field("image", pa.binary()),
            pa.field(_VECTOR, pa.list_(number, dimension), nullable=False),
        ]
    )


def _row_groups(nodes: Iterable[BaseNode]) -> Iterator[list[BaseNode]]:
    """Yield nodes in groups of at most ``ROWS_AT_A_TIME``, of fewer if they have large images."""
    group: list[BaseNode] = []
    size = 0
    for node in nodes:
        group.append(node)
        size += len(inline_image_of(node) or "")
        if len(group) == ROWS_AT_A_TIME or size > MAX_INLINE_IMAGES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _vector_array(new: NewNodes, vectors: Precision) -> pa.Array:
    with np.errstate(over="ignore"):
        numbers = new.vectors.astype(vectors)
    finite = np.isfinite(numbers).all(axis=1)
    if not finite.all():
        wrong = new.node_ids[int(np.argmin(finite))]
        raise ValueError(f"the vector of node {one_line(wrong)} is too large for {vectors}; export float32")
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), numbers.shape[1])


def _rows_of_file(
    path: Path, opened: BinaryIO, shard: Shard, dimension: int | None, batch_size: int
) -> Iterator[list[ShardRow]]:
    try:
        opened.seek(0)
        parquet = pq.ParquetFile(opened)
        if parquet.metadata.num_rows != shard.nodes:
            raise ValueError(f"it has {parquet.metadata.num_rows:,} nodes, {MANIFEST} says {shard.nodes:,}")
        names = _columns_of(parquet.schema_arrow)
        for group in range(parquet.num_row_groups):
            # Row groups of large images have few rows, and batches should not have more.
            for batch in parquet.iter_batches(batch_size, row_groups=[group], columns=names):
                yield _rows_of(batch, dimension or 0)
    except (ValueError, pa.ArrowException) as error:
        raise StoreError(
            f"shard {path} is not in the format that export_index writes: {one_line(str(error))}"
        ) from None


def _rows_of(batch: pa.RecordBatch, dimension: int) -> list[ShardRow]:
    texts = [_required(batch, name).cast(pa.string()).to_pylist() for name in _TEXTS]
    has_images = "image" in batch.schema.names
    images = batch.column("image").cast(pa.binary()).to_pylist() if has_images else repeat(None, batch.num_rows)
    vectors = _vectors_of(_required(batch, _VECTOR), dimension)
    return [ShardRow(*columns) for columns in zip(*texts, images, vectors, strict=True)]


def _required(batch: pa.RecordBatch, name: str) -> pa.Array:
    column = batch.column(name)
    if column.null_count:
        raise ValueError(f"its column {name!r} has rows without a value")
    return column


def _vectors_of(column: pa.Array, dimension: int) -> Vectors:
    if not pa.types.is_fixed_size_list(column.type):
        column = column.cast(pa.list_(column.type.value_type, dimension))
    if column.type.list_size != dimension:
        raise ValueError(f"its vectors have dimension {column.type.list_size}, not {dimension}")
    numbers = column.flatten()
    if numbers.null_count:
        raise ValueError("its vectors have missing numbers")
    vectors: Vectors = numbers.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return vectors.reshape(-1, dimension)


def _columns_of(schema: pa.Schema) -> list[str]:
    """Return the known columns of a file; others are ignored."""
    missing = [name for name in _REQUIRED if name not in schema.names]
    if missing:
        raise ValueError(f"it has no column {', '.join(map(repr, missing))}, only {', '.join(schema.names)}")
    if not hasattr(schema.field(_VECTOR).type, "value_type"):
        raise ValueError(f"its column {_VECTOR!r} holds {schema.field(_VECTOR).type}, not lists of numbers")
    return [name for name in (*_REQUIRED, *_OPTIONAL) if name in schema.names]


def _described(path: Path) -> tuple[Shard, tuple[int, Precision]]:
    """Return what a manifest says of a file, and the dimension and type of its vectors."""
    try:
        with path.open("rb") as opened:
            parquet = pq.ParquetFile(opened)
            _columns_of(parquet.schema_arrow)
            kind = parquet.schema_arrow.field(_VECTOR).type
            vectors: Precision = "float16" if pa.types.is_float16(kind.value_type) else "float32"
            shard = Shard(path.name, parquet.metadata.num_rows, *size_and_hash(opened))
            return shard, (_dimension_of(parquet), vectors)
    except (ValueError, pa.ArrowException, OSError) as error:
        raise StoreError(
            f"{path} is not a shard in the format that export_index writes: {one_line(str(error))}"
        ) from None


def _dimension_of(parquet: pq.ParquetFile) -> int:
    kind = parquet.schema_arrow.field(_VECTOR).type
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    first = next(parquet.iter_batches(1, columns=[_VECTOR]), None)
    if first is None:
        raise ValueError("it has no rows")
    return len(first.column(_VECTOR)[0])
