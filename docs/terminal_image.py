"""Draw the image of the terminal in the guide to the command: a search whose results are drawn with coloured blocks.

Run with ``python docs/terminal_image.py``. It needs Chromium, and a system with pseudo-terminals.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from io import BytesIO, StringIO
from pathlib import Path

from guide_folder import MODEL, guide_folder
from outputs import shown
from PIL import Image
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

FILE = Path(__file__).parent / "images" / "terminal.png"
COMMAND = "search 飞机 -k 2 --show"

# Blocks are as wide as letters in the first font, and twice as wide in the second, which has the Chinese characters.
_PAGE = """<meta charset="utf-8"><style>
pre {{ width: max-content; margin: 0; padding: 14px 18px; background: #16181d; color: #d8dce4;
  font: 15px/1.18 "DejaVu Sans Mono", "Noto Sans Mono CJK SC" }}
</style><pre>{code}</pre>"""
_COLUMNS, _ROWS = 72, 60
_QUESTION = re.compile(r"\x1b_.*?\x1b\\|\x1b\[c", re.DOTALL)
_COLOURS = 64


def shown_in_terminal(arguments: list[str]) -> str:
    """Return what a command writes to a terminal, with its control characters."""
    read, write = pty.openpty()
    fcntl.ioctl(write, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    environment = {
        **os.environ,
        "COLUMNS": str(_COLUMNS),
        "LINES": str(_ROWS),
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
    }
    process = subprocess.Popen(arguments, stdin=write, stdout=write, stderr=subprocess.DEVNULL, env=environment)
    os.close(write)
    parts = []
    # Linux reports the end of a terminal as an error.
    try:
        while data := os.read(read, 65536):
            parts.append(data)
    except OSError:
        pass
    process.wait()
    os.close(read)
    # The terminal is asked whether it can show images.
    return _QUESTION.sub("", b"".join(parts).decode("utf-8", "replace").replace("\r\n", "\n"))


def main() -> None:
    """Write the image."""
    console = Console(record=True, width=_COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    program = [sys.executable, "-m", "llama_index_mm_zhipu"]
    with guide_folder(locale="C.UTF-8", with_key=False) as folder:
        subprocess.run([*program, "index", "images", "--model", str(MODEL)], check=True, capture_output=True)
        output = shown_in_terminal([*program, *COMMAND.split(), "--lang", "zh"])
    console.print(Text(f"$ mmzhipu {COMMAND}", style="bold"))
    console.print(Text.from_ansi(shown(output, folder).rstrip()))
    page_of_terminal = console.export_html(inline_styles=True, code_format=_PAGE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content(page_of_terminal)
        drawn = page.locator("pre").screenshot()
        browser.close()
    Image.open(BytesIO(drawn)).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE).save(FILE, optimize=True)
    print(f"Wrote {FILE}, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
