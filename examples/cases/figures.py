"""Draws the figures of the example pages from their descriptions in JSON.

Types of figures, by the value of ``"kind"``:

- ``chart``: points, lines and vertical distances over two axes with names;
- ``table``: a heading row and rows of text, some cells marked;
- ``tree``: a decision tree with questions and answers;
- ``layers``: columns of nodes, each connected to all nodes of the next column;
- ``grids``: rows of number grids with signs between them;
- ``gauge``: a dial with coloured zones and a needle;
- ``shapes``: rectangles, circles, arcs, lines, polygons and labels on a canvas of the given ``"size"``;
- ``row``: several figures side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from io import BytesIO
from itertools import pairwise
from typing import Any

from PIL import Image
from pypdfium2 import PdfDocument
from reportlab.pdfgen.canvas import Canvas
from typesetting import INK, Box, draw_text, text_width

Figure = dict[str, Any]
Point = tuple[float, float]

GREY, MARKED, ACCENT = "#8a97a3", "#cfe3f7", "#2f6fb0"
LABEL_SIZE = 12
_COLOURS = 24


def draw_figure(canvas: Canvas, figure: Figure, box: Box) -> None:
    """Draw a figure of any type inside a box."""
    canvas.saveState()
    canvas.setLineCap(1)
    canvas.setLineJoin(1)
    _KINDS[figure["kind"]](canvas, figure, box)
    canvas.restoreState()


def figure_image(figure: Figure, width: float, height: float) -> Image.Image:
    """Return a figure as an image of few colours, with two pixels a point, on a light ground with a frame."""
    page = BytesIO()
    canvas = Canvas(page, (width, height), invariant=1)
    canvas.setFillColor("#f6f8f8")
    canvas.setStrokeColor(GREY)
    canvas.rect(0.5, 0.5, width - 1, height - 1, fill=1)
    draw_figure(canvas, figure, Box(0, 0, width, height).inset(4))
    canvas.save()
    with closing(PdfDocument(page.getvalue())) as document:
        image = document[0].render(scale=2).to_pil().convert("RGB")
    return image.quantize(_COLOURS, dither=Image.Dither.NONE).convert("RGB")


def draw_row(canvas: Canvas, figure: Figure, box: Box) -> None:
    """Draw figures side by side, as wide as their ``"shares"`` of the box."""
    total, x = sum(figure["shares"]), box.x
    for part, share in zip(figure["parts"], figure["shares"], strict=True):
        width = box.width * share / total
        draw_figure(canvas, part, Box(x, box.y, width, box.height).inset(4))
        x += width


def draw_chart(canvas: Canvas, figure: Figure, box: Box) -> None:
    """Draw series over axes that run over ``"x_range"`` and ``"y_range"``, with a legend above them."""
    top = box.y + box.height
    for number, series in enumerate(figure["series"]):
        _draw_legend_entry(canvas, series, box.x + 20, top - 14 - 18 * number)
    legend = 18 * len(figure["series"]) + 12
    plot = Box(box.x + 20, box.y + 24, box.width - 30, box.height - 24 - legend)
    _draw_arrow(canvas, (plot.x, plot.y), (plot.x + plot.width + 8, plot.y), INK)
    _draw_arrow(canvas, (plot.x, plot.y), (plot.x, plot.y + plot.height + 8), INK)
    draw_text(canvas, plot.x + plot.width, plot.y - 17, figure["x"], LABEL_SIZE, align="right")
    canvas.saveState()
    canvas.translate(plot.x - 8, plot.y + plot.height)
    canvas.rotate(90)
    draw_text(canvas, 0, 0, figure["y"], LABEL_SIZE, align="right")
    canvas.restoreState()
    (left, right), (bottom, upper) = figure["x_range"], figure["y_range"]
    for series in figure["series"]:
        points = [
            (plot.x + plot.width * (x - left) / (right - left), plot.y + plot.height * (y - bottom) / (upper - bottom))
            for x, y in series["points"]
        ]
        _draw_series(canvas, series, points)


def draw_table(canvas: Canvas, figure: Figure, box: Box) -> None:
    """Draw rows of text. The longest text of a column sets its width, and the cells in ``"marked"`` are coloured."""
    rows, box = figure["rows"], box.inset(4)
    size = figure.get("text_size", LABEL_SIZE)
    needs = [max(text_width(row[column], size) for row in rows) + 12 for column in range(len(rows[0]))]
    height = min(box.height / len(rows), 4.5 * size)
    top = box.y + (box.height + height * len(rows)) / 2
    canvas.setStrokeColor(GREY)
    canvas.setLineWidth(0.8)
    for row_number, row in enumerate(rows):
        x, y = box.x, top - height * (row_number + 1)
        for column, text in enumerate(row):
            width = box.width * needs[column] / sum(needs)
            heading = row_number == 0
            marked = [row_number, column] in figure.get("marked", [])
            canvas.setFillColor(ACCENT if heading else MARKED if marked else "#ffffff")
            canvas.rect(x, y, width, height, fill=1)
            baseline = y + height / 2 - 0.36 * size
            draw_text(canvas, x + width / 2, baseline, text, size, "#ffffff" if heading else INK, "middle")
            x += width


def draw_tree(canvas: Canvas, figure: Figure, box: Box) -> None:
    """Draw a tree. A node has a ``"text"`` and ``"branches"``, which are pairs of an answer and a node."""
    step = (box.height - 30) / (_depth(figure["root"]) - 1)
    _draw_node(canvas, figure["root"], Box(box.x, box.y, box.width, box.height), step)


def draw_layers(canvas: Canvas, figure: Figure, box: Box) -> None:
    """Draw columns of nodes with names below them, and all connections between neighbouring columns."""
    layers = figure["layers"]
    spacing = (box.height - 24) / max(layer["nodes"] for layer in layers)
    middle, radius = box.y + 24 + (box.height - 24) / 2, min(16, 0.4 * spacing)
    columns = []
    for number, layer in enumerate(layers):
        x = box.x + box.width * (number + 0.5) / len(layers)
        columns.append([(x, middle + spacing * (layer["nodes"] / 2 - 0.5 - node)) for node in range(layer["nodes"])])
    canvas.setStrokeColor(GREY)
    canvas.setLineWidth(0.7)
    for column, following in pairwise(columns):
        canvas.lines([(*start, *end) for start in column for end in following])
    canvas.setStrokeColor(INK)
    for layer, column in zip(layers, columns, strict=True):
        canvas.setFillColor(layer["fill"])
        for x, y in column:
            canvas.circle(x, y, radius, fill=1)
        draw_text(canvas, column[0][0], box.y + 4, layer["name"], LABEL_SIZE, align="middle")


def draw_grids(canvas: Canvas, figure: Figure, box: Box) -> None:
    """Draw rows of number grids. A string between two grids is a sign."""
    height = box.height / len(figure["rows"])
    for number, row in enumerate(figure["rows"]):
        units = sum(0.9 if isinstance(part, str) else len(part["cells"][0]) for part in row)
        tallest = max(len(part["cells"]) for part in row if not isinstance(part, str))
        cell = min(box.width / units, (height - 34) / tallest, 34)
        x = box.x + (box.width - cell * units) / 2
        middle = box.y + box.height - height * (number + 0.5) + 8
        for part in row:
            if part == "→":
                # Draw the sign, since few Chinese fonts have the character.
                _draw_arrow(canvas, (x + 0.2 * cell, middle), (x + 0.75 * cell, middle), INK, 1.6)
                x += 0.9 * cell
            elif isinstance(part, str):
                draw_text(canvas, x + 0.45 * cell, middle - 5, part, 15, align="middle")
                x += 0.9 * cell
            else:
                _draw_grid(canvas, part, x, middle, cell)
                x += cell * len(part["cells"][0])


def draw_gauge(canvas: Canvas, figure: Figure, box: Box) -> None:
    """Draw a dial over ``"range"``: zones of ``[from, to, colour]``, ticks, a needle at ``"value"``, its text below."""
    low, high = figure["range"]
    radius = min(box.width / 2 - 34, box.height - 54)
    centre = (box.x + box.width / 2, box.y + 28)

    def at(value: float, distance: float) -> Point:
        angle = math.pi * (1 - (value - low) / (high - low))
        return centre[0] + distance * math.cos(angle), centre[1] + distance * math.sin(angle)

    canvas.setLineCap(0)
    canvas.setLineWidth(0.16 * radius)
    corners = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
    for start, end, colour in figure["zones"]:
        canvas.setStrokeColor(colour)
        canvas.arc(*corners, 180 * (1 - (end - low) / (high - low)), 180 * (end - start) / (high - low))
    for tick in figure["ticks"]:
        x, y = at(tick, 1.08 * radius + 16)
        draw_text(canvas, x, y - 4, f"{tick:g}", 11, align="middle")
    canvas.setLineCap(1)
    _draw_arrow(canvas, centre, at(figure["value"], 0.86 * radius), INK, 2.4)
    canvas.setFillColor(INK)
    canvas.circle(*centre, 5, stroke=0, fill=1)
    draw_text(canvas, centre[0], box.y + 4, figure["text"], LABEL_SIZE, align="middle")


def draw_shapes(canvas: Canvas, figure: Figure, box: Box) -> None:
    """Draw the ``"items"`` of a canvas of ``"size"``, as large as fits, in the middle of the box."""
    width, height = figure["size"]
    scale = min(box.width / width, box.height / height)
    canvas.translate(box.x + (box.width - scale * width) / 2, box.y + (box.height - scale * height) / 2)
    canvas.scale(scale, scale)
    for item in figure["items"]:
        _draw_shape(canvas, item)


_KINDS: dict[str, Callable[[Canvas, Figure, Box], None]] = {
    "chart": draw_chart,
    "table": draw_table,
    "tree": draw_tree,
    "layers": draw_layers,
    "grids": draw_grids,
    "gauge": draw_gauge,
    "shapes": draw_shapes,
    "row": draw_row,
}


def _draw_arrow(canvas: Canvas, start: Point, end: Point, colour: str, width: float = 1.2) -> None:
    angle = math.atan2(end[1] - start[1], end[0] - start[0])
    length = 4 + 2 * width
    left, right = (
        (end[0] - length * math.cos(angle + turn), end[1] - length * math.sin(angle + turn)) for turn in (0.4, -0.4)
    )
    canvas.setStrokeColor(colour)
    canvas.setFillColor(colour)
    canvas.setLineWidth(width)
    # The shaft ends inside the head; otherwise its blunt end would be visible at the tip.
    canvas.line(*start, end[0] - 0.7 * length * math.cos(angle), end[1] - 0.7 * length * math.sin(angle))
    _draw_path(canvas, [left, end, right], closed=True, stroke=0, fill=1)


def _draw_path(canvas: Canvas, points: list[Point], closed: bool, stroke: int, fill: int) -> None:
    path = canvas.beginPath()
    path.moveTo(*points[0])
    for point in points[1:]:
        path.lineTo(*point)
    if closed:
        path.close()
    canvas.drawPath(path, stroke=stroke, fill=fill)


def _draw_legend_entry(canvas: Canvas, series: Figure, x: float, y: float) -> None:
    if series["style"] == "points":
        _draw_series(canvas, series, [(x + 11, y + 4)])
    else:
        _draw_series(canvas, series, [(x, y + 4), (x + 22, y + 4)])
    draw_text(canvas, x + 30, y, series["name"], LABEL_SIZE)


def _draw_series(canvas: Canvas, series: Figure, points: list[Point]) -> None:
    """Draw points or a line; ``"pairs"`` are separate lines, each from one point to the next."""
    canvas.setStrokeColor(series["colour"])
    canvas.setFillColor(series["colour"])
    canvas.setLineWidth(2.2)
    canvas.setDash(series.get("dash", []))
    if series["style"] == "points":
        for x, y in points:
            canvas.circle(x, y, series.get("radius", 3.5), stroke=0, fill=1)
    elif series["style"] == "pairs":
        canvas.lines([(*start, *end) for start, end in zip(points[::2], points[1::2], strict=True)])
    else:
        _draw_path(canvas, points, closed=False, stroke=1, fill=0)
    canvas.setDash()


def _depth(node: Figure) -> int:
    return 1 + max((_depth(child) for _, child in node.get("branches", [])), default=0)


def _leaves(node: Figure) -> int:
    return sum(_leaves(child) for _, child in node.get("branches", [])) or 1


def _draw_node(canvas: Canvas, node: Figure, box: Box, step: float) -> None:
    """Draw a node at the top middle of a box and its branches below, each as wide as its leaves need."""
    x, y = box.x + box.width / 2, box.y + box.height - 15
    branches, left = node.get("branches", []), box.x
    for answer, child in branches:
        width = box.width * _leaves(child) / _leaves(node)
        below = Box(left, box.y, width, box.height - step)
        end = (left + width / 2, below.y + below.height)
        _draw_arrow(canvas, (x, y - 15), end, GREY)
        _draw_node(canvas, child, below, step)
        canvas.setFillColor("#ffffff")
        middle_x, middle_y = (x + end[0]) / 2, (y - 15 + end[1]) / 2
        canvas.rect(middle_x - 16, middle_y - 8, 32, 16, stroke=0, fill=1)
        draw_text(canvas, middle_x, middle_y - 4, answer, LABEL_SIZE, align="middle")
        left += width
    width = text_width(node["text"], LABEL_SIZE) + 18
    canvas.setFillColor(MARKED if branches else "#d9f0dc")
    canvas.setStrokeColor(GREY)
    canvas.setLineWidth(1)
    canvas.roundRect(x - width / 2, y - 15, width, 30, 5, fill=1)
    draw_text(canvas, x, y - 4, node["text"], LABEL_SIZE, align="middle")


def _draw_grid(canvas: Canvas, grid: Figure, x: float, middle: float, cell: float) -> None:
    rows, columns = len(grid["cells"]), len(grid["cells"][0])
    top = middle + cell * rows / 2
    canvas.setStrokeColor(GREY)
    canvas.setLineWidth(0.8)
    for row, numbers in enumerate(grid["cells"]):
        for column, number in enumerate(numbers):
            canvas.setFillColor(grid["fills"][row][column] if "fills" in grid else "#ffffff")
            canvas.rect(x + cell * column, top - cell * (row + 1), cell, cell, fill=1)
            draw_text(canvas, x + cell * (column + 0.5), top - cell * (row + 0.5) - 4, str(number), 11, align="middle")
    draw_text(canvas, x + cell * columns / 2, top - cell * rows - 18, grid["name"], LABEL_SIZE, align="middle")


def _draw_shape(canvas: Canvas, item: Figure) -> None:
    """Draw one item. Without ``"fill"`` it is an outline; with it, it has an outline only if ``"stroke"`` is given."""
    fill, stroke = int("fill" in item), int("stroke" in item or "fill" not in item)
    canvas.setFillColor(item.get("fill", "#ffffff"))
    canvas.setStrokeColor(item.get("stroke", INK))
    canvas.setLineWidth(item.get("width", 1.2))
    canvas.setDash(item.get("dash", []))
    # Round caps would lengthen short dashes.
    canvas.setLineCap(0 if "dash" in item else 1)
    shape = item["shape"]
    if shape == "rectangle":
        canvas.roundRect(*item["at"], item.get("round", 0), stroke=stroke, fill=fill)
    elif shape == "circle":
        canvas.circle(*item["at"], item["radius"], stroke=stroke, fill=fill)
    elif shape == "arc":
        (x, y), radius = item["at"], item["radius"]
        canvas.arc(x - radius, y - radius, x + radius, y + radius, *item["degrees"])
    elif shape in ("line", "polygon"):
        _draw_path(canvas, item["points"], shape == "polygon", stroke, fill)
    elif shape == "arrow":
        _draw_arrow(canvas, *item["points"], item.get("stroke", INK), item.get("width", 1.2))
    elif shape == "text":
        _draw_label(canvas, item)
    else:
        raise ValueError(f"no such shape: {shape}")


def _draw_label(canvas: Canvas, item: Figure) -> None:
    """Draw a text centred at its position, with a line to the point ``"to"`` if it is given."""
    (x, y), size = item["at"], item.get("text_size", LABEL_SIZE)
    if "to" in item:
        half = text_width(item["text"], size) / 2 + 3
        to_x, to_y = item["to"]
        # The line starts at the point of the text that is nearest to its end.
        start = (max(x - half, min(x + half, to_x)), y if abs(to_x - x) > half else y + math.copysign(9, to_y - y))
        canvas.setStrokeColor(GREY)
        canvas.setLineWidth(0.9)
        canvas.line(*start, to_x, to_y)
        canvas.setFillColor(GREY)
        canvas.circle(to_x, to_y, 1.8, stroke=0, fill=1)
    draw_text(canvas, x, y - 0.36 * size, item["text"], size, item.get("colour", INK), item.get("align", "middle"))
