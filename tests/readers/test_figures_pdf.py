"""The images within PDF pages become nodes of their own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from figure_files import drawing, pdf_of, place, write
from llama_index.core.schema import ImageNode
from PIL import Image

from llama_index_mm_zhipu.images import caption_of, load_image, page_text_of
from llama_index_mm_zhipu.readers import PageReader, RecordError

CASES = Path(__file__).parents[2] / "examples" / "cases"
FILES = Path(__file__).parents[1] / "data" / "pages"


def read(path: Path, content: bytes) -> list[ImageNode]:
    """Return the figures of a PDF file."""
    path = path / "a.pdf"
    path.write_bytes(content)
    nodes = PageReader(longest_side=800, id_prefix="", figures=True).load_data(path)
    return [node for node in nodes if node.parent_node is not None]


def box_of(node: ImageNode) -> list[float]:
    """Return the place of a figure in percent."""
    return [round(100 * fraction) for fraction in node.metadata["figure_box"]]


def colours_of(node: ImageNode, points: Sequence[tuple[float, float]]) -> list[str]:
    """Return the names of the colours at points of an image, which are fractions of it."""
    image = load_image(node)
    names = {(255, 0, 0): "red", (0, 0, 0): "black", (0, 0, 255): "blue", (255, 255, 255): "white"}
    found = []
    for x, y in points:
        pixel: Any = image.getpixel((int(x * image.width), int(y * image.height)))
        found.append(names[tuple(round(value / 255) * 255 for value in pixel)])
    return found


CORNERS = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))


def test_the_figures_of_the_car_manual_have_captions_and_texts(tmp_path: Path) -> None:
    content = json.loads((CASES / "car_maintenance.json").read_text(encoding="utf-8"))
    reader = PageReader(longest_side=1024, figures=True)

    nodes = {node.node_id: node for node in reader.load_data(CASES / "car_maintenance.pdf", tmp_path)}

    prefix = next(iter(nodes)).rpartition("/car")[0]
    steps = [(number, page["steps"]) for number, page in enumerate(content["pages"], 1) if "steps" in page]
    assert len(nodes) == len(content["pages"]) + sum(len(each) for _, each in steps) == 27
    for number, each in steps:
        page = nodes[f"{prefix}/car_maintenance.pdf/{number}"]
        ids = [f"{page.node_id}/figure-{index}" for index in range(1, len(each) + 1)]
        assert page.child_nodes is not None
        assert [child.node_id for child in page.child_nodes] == ids
        for index, (node_id, step) in enumerate(zip(ids, each, strict=True), 1):
            figure = nodes[node_id]
            assert figure.parent_node is not None
            assert figure.parent_node.node_id == page.node_id
            assert "".join(caption_of(figure).split()) == "".join(f"图{number}-{index}{step['caption']}".split())
            assert "".join(step["text"].split()) in "".join(page_text_of(figure).split())
            assert figure.metadata["page_label"] == page.metadata["page_label"] == str(number)
            assert figure.metadata["source_location"] == f"{page.metadata['source_location']}/figure-{index}"
            assert "figure_box" in figure.excluded_llm_metadata_keys
            assert figure.image_path == str(tmp_path / f"car_maintenance.pdf-{number}-figure-{index}.jpg")
            assert load_image(figure).size == pytest.approx((444, 171), abs=3)


def test_pages_are_the_same_with_and_without_figures() -> None:
    without = PageReader(longest_side=300).load_data(CASES / "car_maintenance.pdf")
    pages = PageReader(longest_side=300, figures=True).load_data(CASES / "car_maintenance.pdf")
    assert [node.hash for node in pages if node.parent_node is None] == [node.hash for node in without]


def test_icons_rules_backgrounds_and_blank_images_are_left_out(tmp_path: Path) -> None:
    images = [drawing("red"), Image.new("RGB", (60, 40), "blue")]
    page = b"".join(
        [
            place(0, 0, 0, 400, 300),
            place(0, 20, 20, 120, 80),
            place(0, 380, 280, 16, 16),
            place(0, 150, 200, 200, 4),
            place(1, 200, 20, 120, 80),
        ]
    )
    (figure,) = read(tmp_path, pdf_of([page], images))
    assert (figure.node_id, box_of(figure)) == ("a.pdf/1/figure-1", [5, 67, 35, 93])
    assert colours_of(figure, CORNERS) == ["black", "red", "red", "red"]


def test_an_image_on_every_page_is_read_once(tmp_path: Path) -> None:
    images = [drawing("red"), drawing("blue")]
    logo = place(0, 300, 200, 80, 60)
    nodes = read(tmp_path, pdf_of([logo, logo + place(1, 20, 20, 120, 80), logo], images))
    assert [node.node_id for node in nodes] == ["a.pdf/1/figure-1", "a.pdf/2/figure-1"]


@pytest.mark.parametrize(
    ("rotation", "box", "colours"),
    [
        (90, [7, 5, 33, 35], ["red", "black", "red", "red"]),
        (180, [65, 7, 95, 33], ["red", "red", "red", "black"]),
        (270, [67, 65, 93, 95], ["red", "red", "black", "red"]),
    ],
)
def test_figures_of_turned_pages_are_upright(tmp_path: Path, rotation: int, box: list[int], colours: list[str]) -> None:
    content = pdf_of(
        [place(0, 20, 20, 120, 80)], [drawing("red")], entries=b"/MediaBox[0 0 400 300]/Rotate %d" % rotation
    )
    (figure,) = read(tmp_path, content)
    assert box_of(figure) == box
    assert colours_of(figure, CORNERS) == colours


def test_the_place_is_within_the_crop_box(tmp_path: Path) -> None:
    content = pdf_of(
        [place(0, 120, 120, 120, 80)], [drawing("red")], entries=b"/MediaBox[0 0 400 300]/CropBox[100 100 300 300]"
    )
    (figure,) = read(tmp_path, content)
    assert box_of(figure) == [10, 50, 70, 90]


def test_images_in_forms_are_found_where_they_are_drawn(tmp_path: Path) -> None:
    # The second form moves the first one, which draws the image half as large.
    forms = [b"q .5 0 0 .5 10 10 cm " + place(0, 0, 0, 240, 160) + b" Q", b"q 1 0 0 1 100 50 cm /X0 Do Q"]
    (figure,) = read(tmp_path, pdf_of([b"/X1 Do"], [drawing("red")], forms=forms))
    assert box_of(figure) == [28, 53, 57, 80]
    assert colours_of(figure, CORNERS) == ["black", "red", "red", "red"]


def test_what_a_clip_path_hides_is_not_part_of_the_figure(tmp_path: Path) -> None:
    page = b"q 20 20 60 80 re W n " + place(0, 20, 20, 120, 80) + b" Q"
    (figure,) = read(tmp_path, pdf_of([page], [drawing("red")]))
    assert box_of(figure) == [5, 67, 20, 93]


def test_strips_of_an_image_are_one_figure(tmp_path: Path) -> None:
    strips = [drawing(colour, (60, 4)) for colour in ("red", "blue") * 10]
    page = b"".join(place(index, 20, 20 + 5 * index, 120, 5) for index in range(20))
    (figure,) = read(tmp_path, pdf_of([page], strips))
    assert box_of(figure) == [5, 60, 35, 93]


def test_a_scan_in_strips_is_the_page_itself(tmp_path: Path) -> None:
    strips = [drawing(colour, (60, 4)) for colour in ("red", "blue") * 10]
    page = b"".join(place(index, 0, 15 * index, 400, 15) for index in range(20))
    assert read(tmp_path, pdf_of([page], strips)) == []


def test_transparent_parts_look_as_on_the_page(tmp_path: Path) -> None:
    mask = b"<</Type/XObject/Subtype/Image/Width 1/Height 2/BitsPerComponent 8/ColorSpace/DeviceGray/Length 2>>"
    content = pdf_of([place(0, 20, 20, 120, 80)], [drawing("red"), drawing("blue")])
    # The second image becomes the mask of the first one: its upper half hides everything.
    start = content.index(b"6 0 obj")
    end = content.index(b"endobj", start)
    content = content[:start] + b"6 0 obj" + mask + b"stream\n\x00\xff\nendstream\n" + content[end:]
    content = content.replace(b"/Width 60/Height 40", b"/SMask 6 0 R/Width 60/Height 40", 1)
    (figure,) = read(tmp_path, content)
    assert colours_of(figure, ((0.25, 0.1), (0.75, 0.1), (0.25, 0.9))) == ["white", "white", "red"]


def test_captions_and_neighbouring_text_come_from_the_text_layer(tmp_path: Path) -> None:
    page = b"".join(
        [
            write(20, 270, "A page about parts"),
            place(0, 20, 140, 120, 80),
            write(20, 126, "Figure 1: The red part"),
            place(1, 260, 140, 120, 80),
            write(240, 126, "Figure 2: The blue part"),
            write(20, 20, "Turn it as figure 2 shows."),
        ]
    )
    red, blue = read(tmp_path, pdf_of([page], [drawing("red"), drawing("blue")]))
    assert (caption_of(red), caption_of(blue)) == ("Figure 1: The red part", "Figure 2: The blue part")
    assert page_text_of(red) == "A page about parts"
    assert page_text_of(blue) == "Turn it as figure 2 shows."
    assert red.metadata["page_text_source"] == "text_layer"


def test_figures_are_numbered_from_top_to_bottom_and_left_to_right(tmp_path: Path) -> None:
    places = [(260, 40), (20, 42), (20, 190), (260, 188)]
    images = [drawing("red", (60, 40 + index)) for index in range(4)]
    page = b"".join(place(index, *each, 100, 80) for index, each in enumerate(places))
    nodes = read(tmp_path, pdf_of([page], images))
    assert [box_of(node)[:2] for node in nodes] == [[5, 10], [65, 11], [5, 59], [65, 60]]


def test_an_image_that_cannot_be_decoded_is_an_error_or_skipped(tmp_path: Path) -> None:
    pages = [place(0, 20, 20, 120, 80) + place(1, 220, 20, 120, 80)]
    content = pdf_of(pages, [b"no image at all", drawing("red")])
    with pytest.raises(
        RecordError, match=r"a\.pdf, page 1: 1 of its images cannot be decoded, the first at 5%, 67%, 35%, 93%"
    ):
        read(tmp_path, content)
    reader = PageReader(longest_side=300, id_prefix="", figures=True, on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path)] == ["a.pdf/1", "a.pdf/1/figure-1"]
    assert reader.skipped.count == 1


def test_a_page_of_thousands_of_images_is_kept_without_figures(tmp_path: Path) -> None:
    many = b"".join(place(0, index % 100 * 4, index // 100 * 3, 1, 1) for index in range(10_000))
    (tmp_path / "a.pdf").write_bytes(pdf_of([many, place(1, 20, 20, 120, 80)], [drawing("blue"), drawing("red")]))
    reader = PageReader(longest_side=300, id_prefix="", figures=True, on_error="skip")
    assert [node.node_id for node in reader.load_data(tmp_path)] == ["a.pdf/1", "a.pdf/2", "a.pdf/2/figure-1"]
    assert list(reader.skipped.values()) == ["it has more than 1,000 image objects, so its figures are left out"]
    with pytest.raises(RecordError, match=r"page 1: it has more than 1,000 image objects"):
        PageReader(longest_side=300, figures=True).load_data(tmp_path)


def test_scans_have_no_figures(tmp_path: Path, photos: list[Path]) -> None:
    scanned = BytesIO()
    Image.open(photos[0]).convert("RGB").save(scanned, "PDF")
    assert read(tmp_path, scanned.getvalue()) == []


def test_encrypted_files_need_their_password() -> None:
    with pytest.raises(RecordError, match=r"locked\.pdf: cannot be opened as a PDF .*password"):
        PageReader(figures=True).load_data(FILES / "locked.pdf")
    assert len(PageReader(figures=True, password="open sesame").load_data(FILES / "locked.pdf")) == 1
