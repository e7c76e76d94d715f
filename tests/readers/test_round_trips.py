"""Data sets are indexed from their files and found by their captions."""

from __future__ import annotations

from pathlib import Path

import pytest
from published_forms import FORMS, Example, Form

from llama_index_mm_zhipu import ChineseClipEmbedding, build_index, load_index
from llama_index_mm_zhipu.evaluation import evaluate_retrieval
from llama_index_mm_zhipu.readers import RecordError, WukongReader


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_data_set_is_indexed_and_found_by_its_captions(
    form: Form, examples: list[Example], demo_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    arguments = form.write(tmp_path / "data", examples)
    reader = form.reader()
    source = reader.source_of(*arguments)

    index = build_index(reader.lazy_load_data(*arguments), embed_model=demo_embedding, persist_dir=tmp_path / "store")
    report = evaluate_retrieval(index, form.reader().lazy_load_data(*arguments))

    stored = {node.node_id: node.text for node in index.image_store.get_nodes()}  # type: ignore[attr-defined]
    assert stored == {source.id_of(form.node_id(example.number)): example.caption for example in examples}
    assert report.text_to_image.recall[1] == report.image_to_text.recall[1] == 1.0
    assert report.text_to_image.count == report.image_to_text.count == len(examples)
    index.close()


def test_records_before_an_error_stay_indexed(
    examples: list[Example], demo_embedding: ChineseClipEmbedding, tmp_path: Path
) -> None:
    form = FORMS["article"]
    (file,) = form.write(tmp_path, examples)
    assert isinstance(file, Path)
    with file.open("a", encoding="utf-8") as lines:
        lines.write("no json\n")

    with pytest.raises(RecordError, match=r"test\.jsonl, line 11"):
        build_index(
            form.reader().lazy_load_data(file),
            embed_model=demo_embedding,
            persist_dir=tmp_path / "store",
            insert_batch_size=3,
        )

    index = load_index(tmp_path / "store", embed_model=demo_embedding)
    # All ten images before the invalid line are stored, the last one in an incomplete batch.
    assert index.image_store.count() == 10
    index.close()


def test_a_url_that_answers_404_is_an_error_or_skipped(
    file_server: str, photos: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "wukong_100m_0.csv"
    file.write_text(f"url,caption\n{file_server}/{photos[0].name},裙子\n{file_server}/gone.jpg,帽子\n", "utf-8")
    nodes = WukongReader(id_prefix="").load_data(file)
    embed_model = ChineseClipEmbedding(
        model_name=str(tiny_model), device="cpu", allow_urls=True, allow_private_urls=True
    )
    with pytest.raises(ValueError, match=r"node 000/00001: .*404"):
        build_index(nodes, embed_model=embed_model, persist_dir=tmp_path / "store")
    index = build_index(nodes, embed_model=embed_model, persist_dir=tmp_path / "store", on_error="skip")
    assert index.image_store.count() == 1
    assert list(index.skipped) == ["000/00001"]
    index.close()
