# %% [markdown]
# # Search images by Chinese words and by image, and ask about them
#
# Runs offline on the demo set with the demo model and a local stand-in for the GLM API. With real weights and a key the
# same steps use the real models: `python examples/quickstart.py --model ViT-B-16 --data test.jsonl`, or a folder of
# images as `--data`, and `ZHIPUAI_API_KEY` set. `quickstart.ipynb` holds the same steps.

# %%
import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from llama_index.core.base.response.schema import RESPONSE_TYPE
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle
from matplotlib.figure import Figure

from llama_index_mm_zhipu import (
    ChineseClipEmbedding,
    build_index,
    load_index,
    plot_results,
    read_folder,
    read_jsonl,
    show,
)
from llama_index_mm_zhipu.display import Gallery
from llama_index_mm_zhipu.images import load_image
from llama_index_mm_zhipu.testing import connect_glm

IN_NOTEBOOK = "ipykernel" in sys.modules
DEMO = Path("demo") if IN_NOTEBOOK else Path(__file__).parent / "demo"

# %% [markdown]
# ## Settings
# On the command line these are options; in the notebook, change the defaults here.

# %%
parser = argparse.ArgumentParser(description="Search images by Chinese words and by image, and ask about them.")
parser.add_argument("--data", type=Path, default=DEMO / "test.jsonl", help="jsonl as in the demo, or folder of images")
parser.add_argument("--model", default=str(DEMO / "model"), help="such as ViT-B-16, or the path of other weights")
parser.add_argument("--words", default="绿色", help="what to search for")
parser.add_argument("--image", type=Path, help="an image of your own; by default one of the set, turned and shrunk")
parser.add_argument("--question", default="图里有消防车吗？", help="what to ask")
parser.add_argument("--glm", default="glm-4v-flash", help="model that answers")
parser.add_argument("--output", type=Path, default=DEMO / "output", help="folder for the store, plots and pages")
settings = parser.parse_args([] if IN_NOTEBOOK else None)


def print_results(title: str, results: Sequence[NodeWithScore]) -> None:
    """Print what was found: score, id, caption."""
    print(f"\n{title}\n{'score':>7}  {'id':>5}  caption")
    for result in results:
        print(f"{result.score:7.4f}  {result.node.node_id:>5}  {result.node.get_content()}")


def print_answer(question: str, response: RESPONSE_TYPE) -> None:
    """Print an answer, and which images it cites."""
    print(f"\nQuestion: {question}\nAnswer: {response}")
    sources = {source.node.node_id: source.node for source in response.source_nodes}
    for name, node_id in response.metadata["citations"].items():
        print(f"Cited as {name}: {node_id}  {sources[node_id].get_content()}")


def save(shown: Figure | Gallery, name: str) -> Figure | Gallery:
    """Save a plot or a gallery and say where; in a notebook, the last line of a cell shows it."""
    path = settings.output / name
    if isinstance(shown, Gallery):
        shown.save(path)
    else:
        shown.savefig(path, dpi=120)
    print(f"Saved {os.path.relpath(path)}")
    return shown


def image_of_ones_own(nodes: Sequence[ImageNode]) -> Path:
    """Return the image given, or make one that is not in the set."""
    if settings.image is not None:
        return settings.image
    original = load_image(next((node for node in nodes if node.text == "红苹果"), nodes[0]))
    turned = original.rotate(12, fillcolor="white").resize((original.width * 3 // 4, original.height * 3 // 4))
    path = settings.output / "query.jpg"
    turned.save(path, quality=90)
    return path


# %% [markdown]
# ## Load the images and look at five of them

# %%
settings.output.mkdir(parents=True, exist_ok=True)
# Ids without a prefix, which would tell several sources apart.
read = read_folder if settings.data.is_dir() else read_jsonl
nodes = read(settings.data, id_prefix="")
captioned = sum(bool(node.text) for node in nodes)
print(f"Loaded {len(nodes)} images, {captioned} of them with captions, from {os.path.relpath(settings.data)}")

five = nodes[:: max(1, len(nodes) // 5)][:5]
save(plot_results(None, five), "five_images.png")

# %% [markdown]
# ## What is in an image? Probabilities of labels

# %%
embed_model = ChineseClipEmbedding(settings.model)
labels = [node.text for node in five if node.text] or ["飞机", "汽车", "动物", "人物", "风景"]
print(f"Probabilities of labels for image {five[0].node_id}:")
for label, probability in zip(labels, embed_model.similarity(five[0], labels)[0], strict=True):
    print(f"{probability:7.4f}  {label}")

# %% [markdown]
# ## Build the index
# Every batch is on disk when the bar moves on.

# %%
store = settings.output / f"{settings.data.stem}-{Path(settings.model).name}"
index = build_index(nodes, embed_model=embed_model, persist_dir=store, show_progress=True)
print(f"Indexed {len(nodes)} images into {os.path.relpath(store)}")

# %% [markdown]
# ## Search by words and by image

# %%
retriever = index.as_retriever(similarity_top_k=5)
found = retriever.retrieve(settings.words)
print_results(f"Images for the words {settings.words}", found)

# %%
own_image = image_of_ones_own(nodes)
found_by_image = retriever.retrieve(QueryBundle("", image_path=str(own_image)))
print_results(f"Images like {os.path.relpath(own_image)}", found_by_image)

# %% [markdown]
# ## Save, drop everything, load again

# %%
index.close()
del index, retriever, embed_model

embed_model = ChineseClipEmbedding(settings.model)
index = load_index(store, embed_model=embed_model)
again = index.as_retriever(similarity_top_k=5).retrieve(settings.words)
same = [result.node.node_id for result in again] == [result.node.node_id for result in found]
print(f"\nLoaded the index again from disk; it finds {'the same images' if same else 'other images'}.")

# %% [markdown]
# ## Plot what was found

# %%
save(plot_results(settings.words, found), "by_words.png")

# %%
save(plot_results(own_image, found_by_image), "by_image.png")

# %% [markdown]
# ## Ask by words
# The query engine finds images for the question and sends them, numbered, with similarity and caption. The answer
# cites them by number, and the response says which nodes these are.

# %%
llm = connect_glm(settings.glm)
engine = index.as_query_engine(llm=llm, similarity_top_k=3)
response = engine.query(settings.question)
print_answer(settings.question, response)

# %% [markdown]
# A gallery shows the answer with its images; each [图1] is a link. A notebook shows it, `save` writes it as a page.

# %%
save(show(settings.question, response), "answer.html")

# %% [markdown]
# ## Ask with an image of one's own
# The image finds others like it; the model is shown it first, then these.

# %%
engine = index.as_query_engine(llm=llm, similarity_top_k=3, query_mode="image")
query = QueryBundle("我的图片里是什么？", image_path=str(own_image))
print_answer(query.query_str, engine.query(query))

# %%
index.close()
llm.close()
