"""The images in Word documents and slides become nodes, as the documents show them."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from figure_files import (
    drawing,
    inline_image,
    paragraph,
    slide_image,
    slide_text,
    write_document,
    write_parts,
    write_slides,
)
from llama_index.core.schema import ImageNode
from PIL import Image

from llama_index_mm_zhipu.images import caption_of, encode_image, load_image, page_text_of
from llama_index_mm_zhipu.readers import FigureReader, RecordError, office_files

RED, BLUE, GREEN = (encode_image(drawing(colour), "PNG") for colour in ("red", "blue", "lime"))
BOX = (60, 150, 240, 160)
IMAGES = {"r": RED, "b": BLUE, "g": GREEN}


def read(path: Path) -> list[ImageNode]:
    return FigureReader(id_prefix="").load_data(path)


def skipped(path: Path) -> list[str]:
    """Return the reasons for what is left out of a file beside which there is another one with a figure."""
    write_document(path.parent / "z.docx", paragraph(images=inline_image("g")), {"g": GREEN})
    reader = FigureReader(id_prefix="", on_error="skip")
    assert reader.load_data(path.parent)[-1].node_id == "z.docx/figure-1"
    return list(reader.skipped.values())


# Slides


def test_figures_of_slides_have_captions_places_and_the_text_of_the_slide(tmp_path: Path) -> None:
    slide = (
        slide_text("更换备胎", None, 'type="title"')
        + slide_image("r", BOX)
        + slide_text("图 1 松开螺母", (60, 312, 240, 20))
        + slide_image("b", (400, 150, 240, 160))
        + slide_text("图 2 顶起车身", (400, 312, 240, 20))
        + slide_text("千斤顶放在支撑点上", (400, 340, 240, 20))
        + slide_text("3", (650, 500, 40, 20), 'type="sldNum" idx="4"')
    )
    nodes = read(write_slides(tmp_path / "a.pptx", ["", slide], IMAGES))
    assert [node.node_id for node in nodes] == ["a.pptx/2/figure-1", "a.pptx/2/figure-2"]
    first, second = nodes
    assert (caption_of(first), page_text_of(first)) == ("图 1 松开螺母", "更换备胎")
    assert (caption_of(second), page_text_of(second)) == ("图 2 顶起车身", "更换备胎\n千斤顶放在支撑点上")
    assert first.metadata["figure_box"] == pytest.approx([60 / 720, 150 / 540, 300 / 720, 310 / 540], abs=1e-3)
    assert (first.metadata["file_name"], first.metadata["page_label"]) == ("a.pptx", "2")
    assert first.parent_node is not None
    assert first.parent_node.node_id == "a.pptx/2"
    assert load_image(first).getpixel((50, 30)) == (255, 0, 0)


def test_alternative_text_and_titles_stand_in_for_captions(tmp_path: Path) -> None:
    title = slide_text("梯度下降", None, 'type="ctrTitle"')
    shown = {
        'descr="损失曲线"': "损失曲线",
        'descr="image1.png" title="损失"': "损失",
        'descr="图表&#10;&#10;描述已自动生成"': "图表",
        'descr="Description automatically generated"': "梯度下降",
        "": "梯度下降",
    }
    slides = [title + slide_image("r" if about else "b", BOX, about=about) for about in shown]
    for number, (slide, caption) in enumerate(zip(slides, shown.values(), strict=True)):
        (node,) = read(write_slides(tmp_path / f"{number}.pptx", [slide], IMAGES))
        assert caption_of(node) == caption


def test_cropped_turned_and_mirrored_images_are_read_as_shown(tmp_path: Path) -> None:
    slides = [
        slide_image("r", BOX, more='<a:srcRect l="50000"/>'),
        slide_image("r", BOX, form='rot="5400000"'),
        slide_image("b", BOX, form='flipH="1"'),
    ]
    cropped, turned, mirrored = (load_image(node) for node in read(write_slides(tmp_path / "a.pptx", slides, IMAGES)))
    assert (cropped.size, turned.size, mirrored.size) == ((30, 40), (40, 60), (60, 40))
    assert cropped.getpixel((10, 10)) == (255, 0, 0)
    assert turned.getpixel((35, 5)) == mirrored.getpixel((55, 5)) == (0, 0, 0)
    assert turned.getpixel((5, 5)) == (255, 0, 0)
    assert mirrored.getpixel((5, 5)) == (0, 0, 255)


def test_a_turned_image_has_the_place_that_it_takes(tmp_path: Path) -> None:
    (node,) = read(
        write_slides(tmp_path / "a.pptx", [slide_image("r", (60, 150, 240, 160), form='rot="5400000"')], IMAGES)
    )
    assert node.metadata["figure_box"] == pytest.approx([100 / 720, 110 / 540, 260 / 720, 350 / 540], abs=1e-3)


def test_images_in_groups_and_alternatives_are_placed_on_the_slide(tmp_path: Path) -> None:
    # The group shows its 1000 × 1000 units in half of the size, at (72, 54) points.
    group = (
        '<p:grpSp><p:grpSpPr><a:xfrm><a:off x="914400" y="685800"/><a:ext cx="4572000" cy="3429000"/>'
        '<a:chOff x="0" y="0"/><a:chExt cx="9144000" cy="6858000"/></a:xfrm></p:grpSpPr>{}</p:grpSp>'
    )
    choice = (
        '<mc:AlternateContent><mc:Choice Requires="p14">{}</mc:Choice><mc:Fallback>{}</mc:Fallback>'
        "</mc:AlternateContent>"
    )
    inside = slide_image("r", (0, 0, 360, 270))
    slide = group.format(choice.format(inside, slide_image("b", (0, 0, 700, 500))))
    (node,) = read(write_slides(tmp_path / "a.pptx", [slide], IMAGES))
    assert node.metadata["figure_box"] == pytest.approx([0.1, 0.1, 0.35, 0.35], abs=1e-3)


def test_image_placeholders_have_the_place_of_the_layout(tmp_path: Path) -> None:
    layout = slide_text("", BOX, 'type="pic" idx="13"')
    image = slide_image("r", None).replace("<p:nvPr/>", '<p:nvPr><p:ph type="pic" idx="13"/></p:nvPr>')
    (node,) = read(write_slides(tmp_path / "a.pptx", [image], IMAGES, layout=layout))
    assert node.metadata["figure_box"] == pytest.approx([60 / 720, 150 / 540, 300 / 720, 310 / 540], abs=1e-3)
    (node,) = read(write_slides(tmp_path / "b.pptx", [image], IMAGES))
    assert "figure_box" not in node.metadata


def test_shapes_filled_with_an_image_and_tables_are_read(tmp_path: Path) -> None:
    shape = slide_text("", BOX).replace("</a:xfrm>", '</a:xfrm><a:blipFill><a:blip r:embed="r"/></a:blipFill>')
    cells = "".join(
        f"<a:tc><a:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></a:txBody></a:tc>" for text in ("颜色", "红")
    )
    table = f"<p:graphicFrame><a:graphic><a:tbl><a:tr>{cells}</a:tr></a:tbl></a:graphic></p:graphicFrame>"
    (node,) = read(write_slides(tmp_path / "a.pptx", [shape + table], IMAGES))
    assert page_text_of(node) == "颜色 红"


def test_hidden_slides_icons_backgrounds_and_repeated_images_are_left_out(tmp_path: Path) -> None:
    logo = slide_image("r", (560, 20, 120, 90))
    slides = [
        slide_image("g", BOX),
        logo + slide_image("b", (10, 10, 20, 20)),
        logo + slide_image("b", (0, 0, 720, 540)) + slide_image("b", (10, 500, 700, 10)),
    ]
    nodes = read(write_slides(tmp_path / "a.pptx", slides, IMAGES, hidden=[0]))
    assert [node.node_id for node in nodes] == ["a.pptx/1/figure-1"]


def test_the_slides_of_an_office_program_are_read(tmp_path: Path) -> None:
    pptx = pytest.importorskip("pptx")
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[5])
    slide.shapes.title.text = "更换备胎"
    (tmp_path / "red.png").write_bytes(RED)
    points = pptx.util.Pt
    slide.shapes.add_picture(str(tmp_path / "red.png"), points(60), points(150), points(240), points(160))
    slide.shapes.add_textbox(points(60), points(312), points(240), points(20)).text_frame.text = "图 1 松开螺母"
    presentation.save(tmp_path / "a.pptx")
    (node,) = read(tmp_path / "a.pptx")
    assert (caption_of(node), page_text_of(node)) == ("图 1 松开螺母", "更换备胎")
    assert node.metadata["figure_box"] == pytest.approx([60 / 720, 150 / 540, 300 / 720, 310 / 540], abs=1e-3)


# Documents


def test_figures_of_documents_have_captions_and_neighbouring_text(tmp_path: Path) -> None:
    body = (
        paragraph("更换备胎前先看图 2。")
        + paragraph("标题")
        + paragraph("先松开螺母。")
        + paragraph(images=inline_image("r"))
        + paragraph("图 1 松开螺母")
        + paragraph("再顶起车身。")
        + paragraph("然后取下。")
        + paragraph("第三段。")
        + paragraph(images=inline_image("b"))
        + paragraph("示意", style="a3")
        + paragraph("结束。")
    )
    first, second = read(write_document(tmp_path / "a.docx", body, IMAGES))
    assert [first.node_id, second.node_id] == ["a.docx/figure-1", "a.docx/figure-2"]
    assert (caption_of(first), caption_of(second)) == ("图 1 松开螺母", "示意")
    assert page_text_of(first) == "标题\n先松开螺母。\n再顶起车身。\n然后取下。"
    assert page_text_of(second) == "然后取下。\n第三段。\n结束。"
    assert first.metadata["file_name"] == "a.docx"
    assert "page_label" not in first.metadata
    assert first.parent_node is None


def test_paragraphs_that_name_a_figure_are_about_it(tmp_path: Path) -> None:
    filler = "".join(paragraph(f"第 {number} 段") for number in range(9))
    body = paragraph("如图 1-2 所示。") + filler + paragraph(images=inline_image("r")) + paragraph("图1-2　螺母")
    (node,) = read(write_document(tmp_path / "a.docx", body, IMAGES))
    assert page_text_of(node) == "如图 1-2 所示。\n第 7 段\n第 8 段"


def test_captions_above_images_are_recognised_by_the_whole_document(tmp_path: Path) -> None:
    body = "".join(
        paragraph(f"图 {number} {key}") + paragraph(images=inline_image(key)) for number, key in enumerate("rb", 1)
    )
    assert [caption_of(node) for node in read(write_document(tmp_path / "a.docx", body, IMAGES))] == [
        "图 1 r",
        "图 2 b",
    ]


def test_images_in_the_cells_of_a_table_have_the_captions_of_the_next_row(tmp_path: Path) -> None:
    rows = [
        [paragraph(images=inline_image("r")), paragraph(images=inline_image("b"))],
        [paragraph("图 1 红"), paragraph("图 2 蓝")],
    ]
    cells = ["".join(f"<w:tc>{cell}</w:tc>" for cell in row) for row in rows]
    table = f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in cells)}</w:tbl>"
    assert [caption_of(node) for node in read(write_document(tmp_path / "a.docx", table, IMAGES))] == [
        "图 1 红",
        "图 2 蓝",
    ]


def test_pages_are_those_that_word_recorded(tmp_path: Path) -> None:
    pages = "<w:p><w:r><w:lastRenderedPageBreak/><w:t>下一页</w:t></w:r></w:p>"
    body = paragraph(images=inline_image("r")) + pages + pages + paragraph(images=inline_image("b"))
    nodes = read(write_document(tmp_path / "a.docx", body, IMAGES))
    assert [node.metadata["page_label"] for node in nodes] == ["1", "3"]


def test_icons_and_blank_images_of_documents_are_left_out(tmp_path: Path) -> None:
    blank = encode_image(Image.new("RGB", (60, 40), "white"), "PNG")
    body = paragraph(images=inline_image("r", 20, 20) + inline_image("w") + inline_image("b") + inline_image("c"))
    nodes = read(write_document(tmp_path / "a.docx", body, {**IMAGES, "w": blank, "c": BLUE}))
    assert [load_image(node).getpixel((50, 30)) for node in nodes] == [(0, 0, 255)]


def test_the_documents_of_an_office_program_are_read(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.add_heading("更换备胎")
    (tmp_path / "red.png").write_bytes(RED)
    document.add_picture(str(tmp_path / "red.png"), width=docx.shared.Pt(240))
    document.add_paragraph("松开螺母", style="Caption")
    document.save(tmp_path / "a.docx")
    (node,) = read(tmp_path / "a.docx")
    assert (caption_of(node), page_text_of(node)) == ("松开螺母", "更换备胎")


# Files


def test_folders_are_searched_and_images_written_to_files(tmp_path: Path) -> None:
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    write_document(tmp_path / "docs" / "deep" / "b.docx", paragraph(images=inline_image("r")), IMAGES)
    write_slides(tmp_path / "docs" / "a.PPTX", [slide_image("b", BOX)], IMAGES)
    (tmp_path / "docs" / "~$b.docx").write_bytes(b"open in an office program")

    nodes = FigureReader().load_data(tmp_path / "docs", tmp_path / "images")

    prefix = nodes[0].node_id.split("/")[0]
    assert [node.node_id for node in nodes] == [f"{prefix}/a.PPTX/1/figure-1", f"{prefix}/deep/b.docx/figure-1"]
    assert nodes[0].parent_node is not None
    assert nodes[0].parent_node.node_id == f"{prefix}/a.PPTX/1"
    assert [node.image_path for node in nodes] == [
        str(tmp_path / "images" / "a.PPTX-1-figure-1.png"),
        str(tmp_path / "images" / "deep" / "b.docx-figure-1.png"),
    ]
    assert Path(str(nodes[1].image_path)).read_bytes() == RED


def test_files_without_figures_and_other_files_are_errors(tmp_path: Path) -> None:
    write_document(tmp_path / "a.docx", paragraph("text"), {})
    with pytest.raises(ValueError, match=r"a\.docx holds no figures; expected \.docx, \.pptx files"):
        read(tmp_path / "a.docx")
    shutil.copy(tmp_path / "a.docx", tmp_path / "a.doc")
    with pytest.raises(ValueError, match=r"a\.doc is none of \.docx, \.pptx"):
        read(tmp_path / "a.doc")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        read(tmp_path / "gone")


def test_files_that_are_not_office_files_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(b"text")
    with pytest.raises(RecordError, match=r"a\.docx: is not an Office file .*; is it damaged\?"):
        read(tmp_path / "a.docx")
    (tmp_path / "a.docx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    assert skipped(tmp_path / "a.docx") == [
        "is encrypted, or in the format of Office 97; save it as .docx without a password"
    ]


def test_images_that_cannot_be_used_are_errors_or_skipped(tmp_path: Path) -> None:
    body = "".join(paragraph(images=inline_image(key)) for key in ("x", "e", "u", "m", "r"))
    images = {"x": b"no image", "r": RED}
    targets = {"e": "media/e.emf", "u": "https://example.com/image.png", "m": "media/gone.png"}
    write_document(tmp_path / "a.docx", body, images, targets)
    with zipfile.ZipFile(tmp_path / "a.docx", "a") as archive:
        archive.writestr("word/media/e.emf", b"\x01\x00\x00\x00")
    unreadable, *others = skipped(tmp_path / "a.docx")
    assert unreadable.startswith("its image word/media/x.png cannot be opened: ")
    assert others == [
        "its image word/media/e.emf is a drawing made of lines; save it as PNG",
        "an image is only linked, so it is left out; embed it in the document",
        "it has no part word/media/gone.png",
    ]


def test_a_damaged_slide_is_skipped_and_others_are_read(tmp_path: Path) -> None:
    write_slides(tmp_path / "a.pptx", ["<broken", slide_image("r", BOX)], IMAGES)
    reader = FigureReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path)] == ["a.pptx/2/figure-1"]
    assert list(reader.skipped) == [f"{tmp_path / 'a.pptx'}, slide 1"]
    assert "slide0.xml is not XML" in next(iter(reader.skipped.values()))


def test_a_slide_of_hundreds_of_images_is_skipped(tmp_path: Path) -> None:
    write_slides(tmp_path / "a.pptx", [slide_image("r", BOX) * 201, slide_image("b", BOX)], IMAGES)
    reader = FigureReader(id_prefix="", on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path)] == ["a.pptx/2/figure-1"]
    assert list(reader.skipped.values()) == ["it has more than 200 images, so its figures are left out"]


def test_a_zip_bomb_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office_files, "MAX_XML_BYTES", 1 << 20)
    write_document(tmp_path / "a.docx", " " * (2 << 20), {})
    assert (tmp_path / "a.docx").stat().st_size < 10_000
    assert skipped(tmp_path / "a.docx") == ["its part word/document.xml has more than 1 MiB"]


def test_all_parts_together_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(office_files, "MAX_FILE_BYTES", 5_000)
    images = {f"i{number}": RED + bytes(4000) + bytes([number]) for number in range(4)}
    body = "".join(paragraph(images=inline_image(key)) for key in images)
    write_document(tmp_path / "a.docx", body, images)
    reasons = skipped(tmp_path / "a.docx")
    assert reasons
    assert all(" GiB, so word/media/" in reason for reason in reasons)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_not_expanded(tmp_path: Path, encoding: str) -> None:
    levels = "".join(f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, 9))
    bomb = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE d [<!ENTITY a0 "a">{levels}]><d>&a8;</d>'
    write_document(tmp_path / "a.docx", "", {})
    with zipfile.ZipFile(tmp_path / "a.docx") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    write_parts(tmp_path / "a.docx", {**parts, "word/document.xml": bomb.encode(encoding)})
    assert skipped(tmp_path / "a.docx") == ["it declares a document type, which no Office file does"]
