"""Write examples/quickstart.ipynb from quickstart.py, with the outputs of a run, and the plot of the READMEs.

Run with ``make docs``; a test compares the cells with the script's.
"""

from __future__ import annotations

import os
import shutil
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOK = EXAMPLES / "quickstart.ipynb"
SETUP = [
    """[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/llama-index-mm-zhipu/llama-index-mm-zhipu/blob/main/examples/quickstart.ipynb)

在 Colab 或[魔搭](https://modelscope.cn/my/mynotebook)上，下面这一格会取得仓库并安装本包（几分钟）；在克隆的仓库里，它什么也不做。

On Colab or [ModelScope](https://modelscope.cn/my/mynotebook), the next cell fetches the repository and installs the
package (some minutes); in a clone it does nothing.""",
    """import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = "https://github.com/llama-index-mm-zhipu/llama-index-mm-zhipu"

if not Path("demo").is_dir():
    if not Path("llama-index-mm-zhipu").is_dir():
        subprocess.run(["git", "clone", "--depth", "1", REPOSITORY], check=True)
    os.chdir("llama-index-mm-zhipu/examples")
if find_spec("llama_index_mm_zhipu") is None:
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "..[demo]"], check=True)""",
]
"""Text and code of the cells before those of the script, for notebooks that are opened without the repository."""

PLOT = Path(__file__).parent / "images" / "results.png"


def executed_notebook() -> nbformat.NotebookNode:
    """Return the script as a notebook, run offline in the folder of the examples."""
    notebook = jupytext.read(EXAMPLES / "quickstart.py")
    text, code = SETUP
    notebook.cells[:0] = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell(code)]
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    os.environ.pop("ZHIPUAI_API_KEY", None)
    # Over the store of an earlier run, images could have other ids.
    shutil.rmtree(EXAMPLES / "demo" / "output", ignore_errors=True)
    NotebookClient(
        notebook, timeout=None, coalesce_streams=True, resources={"metadata": {"path": str(EXAMPLES)}}
    ).execute()
    for number, cell in enumerate(notebook.cells):
        _make_repeatable(cell, number)
    return notebook


def _make_repeatable(cell: nbformat.NotebookNode, number: int) -> None:
    """Drop what differs from run to run: ids, times, and what goes to stderr, such as progress bars."""
    cell.id = f"cell-{number}"
    cell.metadata = {}
    if cell.cell_type == "code":
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _with_palette(output.data["image/png"])


def _with_palette(png: str) -> str:
    """Shrink a plot to a third: the repository keeps every version of the notebook."""
    buffer = BytesIO()
    image = Image.open(BytesIO(b64decode(png))).convert("RGB")
    palette = image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    palette.save(buffer, "PNG", optimize=True)
    return b64encode(buffer.getvalue()).decode("ascii")


def main() -> None:
    """Write the notebook."""
    notebook = executed_notebook()
    nbformat.write(notebook, NOTEBOOK)
    (plot,) = [
        output.data["image/png"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "by_words.png" in cell.source and "data" in output
    ]
    PLOT.write_bytes(b64decode(plot))
    for written in (NOTEBOOK, PLOT):
        print(f"Wrote {written}")


if __name__ == "__main__":
    main()
