# %% [markdown]
# # Search pictures by Chinese words and by picture, and ask about them
#
# Runs offline on the demo set with the demo model and a local stand-in for the GLM API. With real weights and a key the
# same steps use the real models: `python examples/quickstart.py --model ViT-B-16 --data test.jsonl`, or a folder of
# pictures as `--data`, and `ZHIPUAI_API_KEY` set. `quickstart.ipynb` holds the same steps.

# %%
import argparse
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
)
from llama_index_mm_zhipu.images import load_image
from llama_index_mm_zhipu.testing import connect_glm

IN_NOTEBOOK = "ipykernel" in sys.modules
EXAMPLES = Path.cwd() if IN_NOTEBOOK else Path(__file__).parent
DEMO = EXAMPLES / "demo"

# %% [markdown]
# ## Settings
# On the command line these are options; in the notebook, change the defaults here.

# %%
parser = argparse.ArgumentParser(description="Search pictures by Chinese words and by picture, and ask about them.")
parser.add_argument(
    "--data", type=Path, default=DEMO / "test.jsonl", help="jsonl as in the demo, or folder of pictures"
)
parser.add_argument("--model", default=str(DEMO / "model"), help="such as ViT-B-16, or the path of other weights")
parser.add_argument("--words", default="飞机", help="what to search for")
parser.add_argument("--picture", type=Path, help="a picture of your own; by default one of the set, turned and shrunk")
parser.add_argument("--question", default="图里有消防车吗？", help="what to ask")
parser.add_argument("--glm", default="glm-4v-flash", help="model that answers")
parser.add_argument("--output", type=Path, default=DEMO / "output", help="folder for the store and the plots")
settings = parser.parse_args([] if IN_NOTEBOOK else None)


def print_results(title: str, results: Sequence[NodeWithScore]) -> None:
    """Print what was found: score, id, caption."""
    print(f"\n{title}\n{'score':>7}  {'id':>5}  caption")
    for result in results:
        print(f"{result.score:7.4f}  {result.node.node_id:>5}  {result.node.get_content()}")


def print_answer(question: str, response: RESPONSE_TYPE) -> None:
    """Print an answer, the pictures that were sent, and which of them the answer cites."""
    print(f"\nQuestion: {question}\nAnswer: {response}")
    print_results("Pictures that the answer rests on", response.source_nodes)
    for name, node in response.metadata["citations"].items():
        print(f"Cited as {name}: {node.node_id}  {node.get_content()}")


def show(figure: Figure, name: str) -> None:
    """Save a plot and say where; in a notebook, show it too."""
    path = settings.output / name
    figure.savefig(path, dpi=120)
    print(f"Saved {path}")
    if IN_NOTEBOOK:
        import IPython.display

        IPython.display.display(IPython.display.Image(filename=path))


def picture_of_ones_own(nodes: Sequence[ImageNode]) -> Path:
    """Return the picture given, or make one that is not in the set."""
    if settings.picture is not None:
        return settings.picture
    original = load_image(next((node for node in nodes if node.text == "红苹果"), nodes[0]))
    turned = original.rotate(12, fillcolor="white").resize((original.width * 3 // 4, original.height * 3 // 4))
    path = settings.output / "query.jpg"
    turned.save(path, quality=90)
    return path


# %% [markdown]
# ## Load the pictures and look at five of them

# %%
settings.output.mkdir(parents=True, exist_ok=True)
nodes = read_folder(settings.data) if settings.data.is_dir() else read_jsonl(settings.data)
captioned = sum(bool(node.text) for node in nodes)
print(f"Loaded {len(nodes)} pictures, {captioned} of them with captions, from {settings.data}")

five = nodes[:: max(1, len(nodes) // 5)][:5]
show(plot_results(None, five), "five_pictures.png")

# %% [markdown]
# ## What is in a picture? Probabilities of labels

# %%
embed_model = ChineseClipEmbedding(settings.model)
labels = [node.text for node in five if node.text] or ["飞机", "汽车", "动物", "人物", "风景"]
print(f"Probabilities of labels for picture {five[0].node_id}:")
for label, probability in zip(labels, embed_model.similarity(five[0], labels)[0], strict=True):
    print(f"{probability:7.4f}  {label}")

# %% [markdown]
# ## Build the index
# Every batch is on disk when the bar moves on.

# %%
store = settings.output / f"{settings.data.stem}-{Path(settings.model).name}"
index = build_index(nodes, embed_model=embed_model, persist_dir=store, show_progress=True)
print(f"Indexed {len(nodes)} pictures into {store}")

# %% [markdown]
# ## Search by words and by picture

# %%
retriever = index.as_retriever(image_similarity_top_k=5)
print_results(f"Pictures for the words {settings.words}", retriever.retrieve(settings.words))

# %%
own_picture = picture_of_ones_own(nodes)
print_results(f"Pictures like {own_picture}", retriever.retrieve(QueryBundle("", image_path=str(own_picture))))

# %% [markdown]
# ## Save, drop everything, load again

# %%
index.close()
del index, retriever, embed_model

embed_model = ChineseClipEmbedding(settings.model)
index = load_index(store, embed_model=embed_model)
retriever = index.as_retriever(image_similarity_top_k=5)

found = retriever.retrieve(settings.words)
print_results(f"Again, from disk: pictures for the words {settings.words}", found)

# %% [markdown]
# ## Plot what was found

# %%
show(plot_results(settings.words, found), "by_words.png")
show(plot_results(own_picture, retriever.retrieve(QueryBundle("", image_path=str(own_picture)))), "by_picture.png")

# %% [markdown]
# ## Ask by words
# The query engine finds pictures for the question and sends them, numbered, with similarity and caption. The answer
# cites them by number, and the response says which nodes these are.

# %%
llm = connect_glm(settings.glm)
engine = index.as_query_engine(llm=llm, image_similarity_top_k=3)
print_answer(settings.question, engine.query(settings.question))

# %% [markdown]
# ## Ask with a picture of one's own
# The picture finds others like it; the model is shown it first, then these.

# %%
engine = index.as_query_engine(llm=llm, image_similarity_top_k=3, query_mode="image")
query = QueryBundle("我的图片里是什么？", image_path=str(own_picture))
print_answer(query.query_str, engine.query(query))

# %%
index.close()
llm.close()
