"""Compact JSON leaves out what its row and the format of the file tell, and nodes come back unchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)

from llama_index_mm_zhipu import FaissMultiModalVectorStore
from llama_index_mm_zhipu.vector_store.compact import compact_json, compact_json_of, fields_of

SOURCE = RelatedNodeInfo(node_id="doc")
WHOLE_SOURCE = RelatedNodeInfo(node_id="doc", node_type=ObjectType.DOCUMENT, metadata={"file": "a.pdf"}, hash="h")
OTHERS: dict[str, Any] = {
    "metadata": {"page": 1, "none": None, "tags": ["红", {"a": 1.5}]},
    "excluded_embed_metadata_keys": ["page"],
    "excluded_llm_metadata_keys": ["tags"],
    "metadata_template": "{key}={value}",
    "metadata_separator": ";",
    "text_template": "{content}",
}
TEXTS: dict[str, Any] = {"text": '红苹果","class_name":"TextNode"}', "mimetype": "text/html", "start_char_idx": 0}


class Photo(ImageNode):
    """A user's class, with a default of its own and a field of its own."""

    mimetype: str = "image/jpeg"
    camera: str = "none"

    @classmethod
    def class_name(cls) -> str:
        return "Photo"


NODES: list[BaseNode] = [
    TextNode(id_="a"),
    TextNode(id_="a", text="红", relationships={NodeRelationship.SOURCE: SOURCE}),
    TextNode(id_="a", relationships={NodeRelationship.SOURCE: WHOLE_SOURCE}),
    TextNode(id_="a", relationships={NodeRelationship.PREVIOUS: SOURCE}),
    TextNode(id_="a", relationships={NodeRelationship.SOURCE: SOURCE, NodeRelationship.CHILD: [SOURCE, WHOLE_SOURCE]}),
    TextNode(id_="a", end_char_idx=3, **TEXTS, **OTHERS),
    ImageNode(id_="a"),
    ImageNode(id_="a", image_path="a.jpg", text_embedding=[0.5], **TEXTS, **OTHERS),
    ImageNode(id_="a", image_url="https://example.com/a.jpg", image_mimetype="image/jpeg"),
    Photo(id_="a", image_path="a.png"),
    IndexNode(id_="a", index_id="i", **TEXTS),
    IndexNode(id_="a", index_id="i", obj=TextNode(id_="b", text="x"), **OTHERS),
    Node(id_="a"),
    Node(id_="a", text_resource=MediaResource(text="红"), image_resource=MediaResource(path=Path("a.jpg")), **OTHERS),
    Document(id_="a", text="红苹果", relationships={NodeRelationship.SOURCE: SOURCE}),
    ImageDocument(id_="a", image_resource=MediaResource(path=Path("a.jpg"))),
]


def nearest_class(node: BaseNode) -> type[BaseNode]:
    return ImageNode if isinstance(node, Photo) else type(node)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.class_name())
def test_a_node_of_every_class_comes_back_unchanged(node: BaseNode) -> None:
    class_ = nearest_class(node)
    whole = node.model_dump_json(exclude={"embedding", "image"})
    expected = class_.from_dict(json.loads(whole))
    for content in (
        compact_json(node, class_.class_name(), {"embedding", "image"}),
        compact_json_of(whole, class_.class_name(), node.ref_doc_id),
        whole,
    ):
        back = class_.from_dict(fields_of(content, class_.class_name(), node.node_id, node.ref_doc_id))
        assert back.to_dict() == expected.to_dict()
        assert list(back.relationships) == list(node.relationships)


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.class_name())
def test_no_field_of_a_stored_node_is_left_to_the_defaults_of_llama_index(node: BaseNode) -> None:
    class_ = nearest_class(node)
    content = compact_json(node, class_.class_name(), {"embedding", "image"})
    fields = fields_of(content, class_.class_name(), node.node_id, node.ref_doc_id)
    assert fields.keys() >= class_.model_fields.keys() - {"embedding", "image"}


def test_a_field_that_is_missing_has_the_value_of_the_format() -> None:
    fields = fields_of('{"text":"红"}', "TextNode", "a", None)
    assert fields == {
        "id_": "a",
        "relationships": {},
        "metadata": {},
        "excluded_embed_metadata_keys": [],
        "excluded_llm_metadata_keys": [],
        "metadata_template": "{key}: {value}",
        "metadata_separator": "\n",
        "text_template": "{metadata_str}\n\n{content}",
        "text": "红",
        "mimetype": "text/plain",
        "start_char_idx": None,
        "end_char_idx": None,
    }


@pytest.mark.parametrize("class_", [TextNode, ImageNode, Document])
def test_the_compact_json_of_a_plain_node_has_what_is_its_own(class_: type[BaseNode]) -> None:
    node = class_(id_="a", metadata={"n": 1}, relationships={NodeRelationship.SOURCE: SOURCE})
    for content in (
        compact_json(node, class_.class_name(), {"embedding", "image"}),
        compact_json_of(node.model_dump_json(exclude={"embedding"}), class_.class_name(), "doc"),
    ):
        assert json.loads(content).keys() <= {"metadata", "image", "text", "class_name"}
        assert "doc" not in content


def test_values_that_are_restored_are_not_shared_between_nodes() -> None:
    def read() -> TextNode:
        return TextNode.from_dict(fields_of("{}", "TextNode", "a", None))

    changed = read()
    changed.metadata["x"] = 1
    changed.excluded_llm_metadata_keys.append("x")
    changed.relationships[NodeRelationship.SOURCE] = SOURCE
    assert read() == TextNode(id_="a")


@pytest.mark.parametrize(
    "node",
    [
        TextNode(id_="a\ud83d"),
        TextNode(id_="a", relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="\ud83d")}),
    ],
)
def test_an_id_with_a_lone_surrogate_is_an_error_although_it_is_left_out(node: TextNode) -> None:
    with pytest.raises(ValueError, match="surrogates"):
        compact_json(node, "TextNode", {"embedding"})


def test_a_node_that_names_itself_as_its_document_comes_back(store: FaissMultiModalVectorStore) -> None:
    node = TextNode(id_="a", relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="a")}, embedding=[1.0])
    store.add([node])
    (back,) = store.get_nodes_of_document("a")
    assert back.relationships == node.relationships
    store.delete("a")
    assert store.count() == 0
