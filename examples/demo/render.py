"""Render colour emoji and write them with their Chinese names to ``test.jsonl``.

This script needs the packages ``emoji`` and ``pillow`` and the font Noto Color Emoji (Debian and Ubuntu:
fonts-noto-color-emoji)::

    python examples/demo/render.py
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
from io import BytesIO
from pathlib import Path

import emoji
from PIL import Image, ImageDraw, ImageFont
from tqdm.auto import tqdm

HERE = Path(__file__).parent
DEFAULT_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")

GLYPH_PIXELS = 109
"""The only size of the bitmaps in Noto Color Emoji."""

_ZERO_WIDTH_JOINER = "\u200d"
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)
_TAG_END = "\U000e007f"


def chinese_names() -> dict[str, str]:
    """Return the Chinese CLDR short names of emoji by character, in Unicode order.

    Emoji with skin tones, joined sequences, flags and emoji that are not fully qualified are left out.
    """
    emoji.config.load_language("zh")
    names = {
        character: data["zh"].strip(":").replace("_", "")
        for character, data in emoji.EMOJI_DATA.items()
        if data["status"] == emoji.STATUS["fully_qualified"] and "zh" in data and _is_plain(character)
    }
    return dict(sorted(names.items()))


def load_font(path: Path = DEFAULT_FONT) -> ImageFont.FreeTypeFont:
    """Load Noto Color Emoji.

    Raises:
        SystemExit: The font file does not exist.
    """
    if not path.is_file():
        sys.exit(
            f"no font at {path}: install Noto Color Emoji (Debian and Ubuntu: fonts-noto-color-emoji) or give --font"
        )
    return ImageFont.truetype(str(path), GLYPH_PIXELS)


def render_glyph(character: str, font: ImageFont.FreeTypeFont) -> Image.Image | None:
    """Return an emoji on a transparent background, cropped to its bounding box; None if the font does not have it."""
    canvas = Image.new("RGBA", (3 * GLYPH_PIXELS, 2 * GLYPH_PIXELS))
    ImageDraw.Draw(canvas).text((GLYPH_PIXELS // 2, GLYPH_PIXELS // 4), character, font=font, embedded_color=True)
    box = canvas.getbbox()
    # If the font does not have an emoji of several parts, they are drawn side by side, wider than one image.
    if box is None or box[2] - box[0] > 1.5 * GLYPH_PIXELS:
        return None
    return canvas.crop(box)


def place(glyph: Image.Image, side: int, background: tuple[int, int, int], fill: float = 0.86) -> Image.Image:
    """Draw a glyph in the middle of a square; ``fill`` is the ratio of its longer side to the side of the square."""
    scale = fill * side / max(glyph.size)
    size = (max(1, round(glyph.width * scale)), max(1, round(glyph.height * scale)))
    resized = glyph.resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side, side), background)
    square.paste(resized, ((side - size[0]) // 2, (side - size[1]) // 2), resized)
    return square


def main() -> None:
    """Write the file and print how many images it has."""
    arguments = _arguments()
    font = load_font(arguments.font)
    # The seed makes the file reproducible.
    colours = random.Random(0)
    written, missing = 0, []
    with arguments.output.open("w", encoding="utf-8") as lines:
        for character, name in tqdm(chinese_names().items(), desc="Rendering emoji"):
            background = _light_colour(colours)
            glyph = render_glyph(character, font)
            if glyph is None:
                missing.append(name)
                continue
            written += 1
            image = _jpeg(place(glyph, arguments.size, background), arguments.quality)
            record = {"image_id": str(written), "image_base64": image, "caption": name}
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
    size = arguments.output.stat().st_size
    print(f"Wrote {written} images, {size / 1e6:.1f} MB, to {arguments.output}; not in the font: {len(missing)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "test.jsonl")
    parser.add_argument("--font", type=Path, default=DEFAULT_FONT, help="Noto Color Emoji")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--quality", type=int, default=85, help="JPEG quality")
    return parser.parse_args()


def _is_plain(character: str) -> bool:
    code_points = [ord(part) for part in character]
    return not (
        _ZERO_WIDTH_JOINER in character
        or _TAG_END in character
        or any(point in _SKIN_TONES for point in code_points)
        or code_points[0] in _FLAG_LETTERS
    )


def _light_colour(source: random.Random) -> tuple[int, int, int]:
    if source.random() < 0.5:
        return 255, 255, 255
    return tuple(source.randint(200, 255) for _ in range(3))  # type: ignore[return-value]


def _jpeg(image: Image.Image, quality: int) -> str:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


if __name__ == "__main__":
    main()
