"""Make ``earlier_files.tar.gz``, the files that ``tests/test_earlier_files.py`` opens.

The archive was made once, with version 0.1.0 of the package as it was before its modules were moved and renamed
(``GLMStandIn``, ``GLMRerank``). It is not to be made again with newer code: its purpose is to show that files of the
older code can still be read. The program ran in an empty folder, so that no path of a machine is in the files::

    cd /srv/earlier && PYTHONPATH=<the older code> python make_earlier_files.py <the older code>/examples/demo

The folder then holds:

- ``album/``: six small images, named by what they show, and ``captions.csv``.
- ``captioned/``: an index that ``build_index(persist_dir=…)`` and ``storage_context.persist`` wrote. Every image has a
  caption, so ``caption_weight`` is 0.5. Nodes were deleted after the faiss files had been written.
- ``mixed/``: an index in memory that ``storage_context.persist`` copied; some images have captions.
- ``goods/``: a vector store with an HNSW index and metadata of several types, with a write-ahead log, as if the process
  had been killed.
- ``captions.sqlite3``: the cache of ``ImageCaptioner``.
- ``components.json``: ``to_dict()`` of components.
- ``expected.json``: what the older code found in the indexes and in the store.
"""

from __future__ import annotations

import base64
import datetime
import io
import json
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

NAMES = {"plane": "飞机", "clock": "闹钟", "apple": "红苹果", "banana": "香蕉", "melon": "西瓜", "lemon": "柠檬"}


def main(demo: Path) -> None:
    """Write all files into the working directory, and the archive of them."""
    from llama_index_mm_zhipu import ChineseClipEmbedding

    write_album(demo)
    shutil.copytree(demo / "model", "model")
    embed_model = ChineseClipEmbedding("model", device="cpu", backend="torch")
    expected = {
        "captioned": make_captioned(embed_model),
        "mixed": make_mixed(embed_model),
        "goods": make_goods(),
        "captions": make_captions(),
    }
    Path("expected.json").write_text(json.dumps(expected, ensure_ascii=False), encoding="utf-8")
    Path("components.json").write_text(json.dumps(components(), ensure_ascii=False), encoding="utf-8")
    with tarfile.open("earlier_files.tar.gz", "w:gz") as archive:
        for path in sorted(Path().rglob("*")):
            if path.is_file() and path.parts[0] != "model" and path.suffix not in (".py", ".gz"):
                archive.add(path, filter=anonymous)


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    member.mode = 0o644
    return member


def write_album(demo: Path) -> None:
    from PIL import Image

    Path("album").mkdir()
    lines = [json.loads(line) for line in (demo / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    by_caption = {line["caption"]: line["image_base64"] for line in lines}
    for name, caption in NAMES.items():
        image = Image.open(io.BytesIO(base64.b64decode(by_caption[caption])))
        image.convert("RGB").resize((48, 48)).save(Path("album") / f"{name}.jpg", quality=60)
    rows = ["file_name,caption,price", *(f"{name}.jpg,{caption},{len(name)}" for name, caption in NAMES.items())]
    Path("album/captions.csv").write_text("\n".join(rows), encoding="utf-8")


def make_captioned(embed_model: Any) -> dict[str, Any]:
    from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo, TextNode

    from llama_index_mm_zhipu import build_index, read_folder

    inline = base64.b64encode(Path("album/plane.jpg").read_bytes()).decode()
    nodes = [
        *read_folder("album", captions="album/captions.csv"),
        ImageNode(id_="inline", image=inline, text="一架飞机", metadata={"tags": ["天空", "白色"], "year": 2024}),
        ImageNode(id_="relative", image_path="album/clock.jpg", text="闹钟", metadata={"price": 12.5, "sold": True}),
        ImageNode(id_="gone image", image_path="album/lemon.jpg", text="柠檬"),
        TextNode(
            id_="text",
            text="飞机停在机场，跑道很长。",
            metadata={"page": 3, "when": datetime.date(2026, 1, 2), "deep": {"a": [1, None]}, "nothing": None},
            relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="manual")},
        ),
        TextNode(id_="gone text", text="柠檬很酸。"),
    ]
    index = build_index(nodes, embed_model, persist_dir="captioned")
    index.storage_context.persist("captioned")
    index.delete_nodes(["gone image", "gone text"])
    found = found_in(index)
    index.close()
    return found


def make_mixed(embed_model: Any) -> dict[str, Any]:
    from llama_index.core.schema import ImageNode, TextNode

    from llama_index_mm_zhipu import build_index

    nodes = [
        ImageNode(id_="apple", image_path="album/apple.jpg", text="红苹果"),
        ImageNode(id_="banana", image_path="album/banana.jpg"),
        TextNode(id_="text", text="苹果和香蕉都是水果。"),
    ]
    index = build_index(nodes, embed_model)
    index.storage_context.persist("mixed")
    found = found_in(index)
    index.close()
    return found


def found_in(index: Any) -> dict[str, Any]:
    """Return what an index holds and finds; the retriever is asked without full text, by cosines."""
    texts, images = index.stores
    retriever = index.as_retriever(similarity_top_k=10, vector_store_query_mode="default")
    return {
        "caption_weight": index.caption_weight,
        "model": images.get_setting("model"),
        "nodes": [node.to_dict() for store in (images, texts) for node in store.get_nodes()],
        "queries": {
            words: [[found.node.node_id, found.score] for found in retriever.retrieve(words)]
            for words in ("飞机", "红苹果")
        },
    }


def make_goods() -> dict[str, Any]:
    from llama_index.core.schema import ImageNode, TextNode
    from llama_index.core.vector_stores import VectorStoreQuery

    from llama_index_mm_zhipu import FaissMultiModalVectorStore

    nodes = [
        TextNode(
            id_=f"n{number}",
            text=f"第{number}件商品 SU{number}",
            embedding=[1.0, number / 10, 0.0],
            metadata={
                "number": number,
                "half": number / 2,
                "even": number % 2 == 0,
                "colours": ["红", "蓝"][: number % 3],
            },
        )
        for number in range(8)
    ]
    store = FaissMultiModalVectorStore("live", namespace="goods", model="model sha256:1")
    store.add([*nodes, ImageNode(id_="odd", image="data:image/png;base64,iVBORw0KGgo", embedding=[0.0, 0.0, 1.0])])
    store.reindex("hnsw")
    store.delete_nodes(["n3"])
    store.add([nodes[5].model_copy(update={"text": "换过的商品", "embedding": [1.0, 0.0, 0.0]})])
    query = VectorStoreQuery(query_embedding=[1.0, 1.0, 0.0], similarity_top_k=20)
    result = store.query(query)
    shutil.copytree("live", "goods")
    found = {
        "nodes": [node.to_dict() for node in store.get_nodes(include_embeddings=True)],
        "query": [[node_id, score] for node_id, score in zip(result.ids, result.similarities, strict=True)],
    }
    store.close()
    shutil.rmtree("live")
    return found


def make_captions() -> dict[str, str]:
    from llama_index.core.schema import ImageNode

    from llama_index_mm_zhipu import ZhipuMultiModal
    from llama_index_mm_zhipu.ingestion import ImageCaptioner
    from llama_index_mm_zhipu.testing import GLMStandIn, Says

    nodes = [ImageNode(id_=name, image_path=f"album/{name}.jpg") for name in NAMES]
    with GLMStandIn() as server:
        server.script(*[Says(f"说明：{caption}\n文字：{name.upper()}") for name, caption in NAMES.items()])
        llm = ZhipuMultiModal(model="glm-4v-plus", api_key="id.secret", api_base=server.url)
        captioner = ImageCaptioner(llm=llm, num_workers=1, cache_path="captions.sqlite3")
        return {node.node_id: node.get_content() for node in captioner(nodes)}


def components() -> dict[str, Any]:
    from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, ZhipuMultiModal
    from llama_index_mm_zhipu.ingestion import ImageCaptioner
    from llama_index_mm_zhipu.query import GLMRerank

    llm = ZhipuMultiModal(model="glm-4v-plus", api_key="id.secret", api_base="https://glm.example/v4", temperature=0.5)
    made = [
        llm,
        ImageCaptioner(llm=llm, language="en", num_workers=3, cache_path="captions.sqlite3"),
        GLMRerank(llm=llm, top_n=3, mode="single"),
        ChineseClipEmbedding("model", device="cpu", embed_batch_size=7),
        FaissMultiModalVectorStore("goods", namespace="goods", model="model sha256:1"),
    ]
    return {type(component).__name__: component.to_dict() for component in made}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
