"""Imports all modules and runs one query. CI runs this script in an environment with nothing but the wheel."""

import pkgutil
import tempfile
from importlib import import_module
from pathlib import Path

from llama_index.core.schema import ImageNode
from PIL import Image

import llama_index_mm_zhipu as package
from llama_index_mm_zhipu.cli.main import main
from llama_index_mm_zhipu.testing import MockGLMServer, tiny_checkpoint

EXTRAS = ("postgres", "qdrant", "milvus", "transfer")

# These modules need pytest, matplotlib, Ray, mcp, Starlette and clients of stores, which the wheel does not require.
needing_more = (
    *(
        "testing.fixtures",
        "display.figure",
        "distributed",
        "mcp.",
        "server",
        "cli.commands.mcp",
        "cli.commands.serve",
        "cli.commands.import",
    ),
    *("cli.commands.export", "cli.transfer", "service.moving", "__main__"),
    *(f"stores.{each}." for each in EXTRAS),
)
skipped = tuple(f"{package.__name__}.{module}" for module in needing_more)
found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
modules = [module.name for module in found if not module.name.startswith(skipped)]
for module in modules:
    import_module(module)
for name in package.__all__:
    getattr(package, name)

with tempfile.TemporaryDirectory() as folder, MockGLMServer() as server:
    image = Path(folder) / "red.png"
    Image.new("RGB", (64, 64), "red").save(image)
    embed_model = package.ChineseClipEmbedding(str(tiny_checkpoint(Path(folder) / "model")))
    index = package.build_index(
        [ImageNode(image_path=str(image), text="红色")], embed_model=embed_model, persist_dir=Path(folder) / "store"
    )
    llm = package.ZhipuMultiModal(api_key="id.secret", api_base=server.url)
    response = index.as_query_engine(llm=llm).query("图里是什么颜色？")
    assert len(response.source_nodes) == 1, response
    assert "#ff0000" in str(response) or "#fe0000" in str(response), response
    assert "data:image/jpeg;base64," in package.show("图里是什么颜色？", response)._repr_html_()
    index.close()
    # The command finds the model again that the index recorded.
    assert main(["search", "红色", "--store", str(Path(folder) / "store")]) == 0
    assert main(["info", "--store", str(Path(folder) / "store")]) == 0

print(f"wheel: {len(modules)} modules imported, one query answered")
