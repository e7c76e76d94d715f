# %% [markdown]
# # 用中文和图片检索图片，并就图片提问 · Search images by Chinese words and by image, and ask about them
#
# 本示例不需要联网：用的是演示图片、演示模型和本机的 GLM 模拟服务。要用真正的模型，请设置 `ZHIPUAI_API_KEY`，再运行
# `python examples/quickstart.py --model ViT-B-16 --data test.jsonl`；`--data` 也可以是图片文件夹。`quickstart.ipynb`
# 的步骤相同。
#
# This example runs offline: it uses the demo images, the demo model and a local mock of the GLM API. To use the real
# models, set `ZHIPUAI_API_KEY` and run `python examples/quickstart.py --model ViT-B-16 --data test.jsonl`; `--data` may
# also be a folder of images. `quickstart.ipynb` has the same steps.

# %%
import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from itertools import islice
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
from llama_index_mm_zhipu.images import load_image, page_text_of
from llama_index_mm_zhipu.readers import PageReader
from llama_index_mm_zhipu.testing import connect_glm

IN_NOTEBOOK = "ipykernel" in sys.modules
EXAMPLES = Path() if IN_NOTEBOOK else Path(__file__).parent
DEMO, CASES = EXAMPLES / "demo", EXAMPLES / "cases"

# %% [markdown]
# ## 设置 · Settings
# 脚本从命令行读取这些设置；在 notebook 里，请直接修改默认值。
#
# The script reads these from the command line. In the notebook, change the defaults.

# %%
parser = argparse.ArgumentParser(description="Search images by Chinese words and by image, and ask about them.")
parser.add_argument(
    "--data", type=Path, default=DEMO / "test.jsonl", help="jsonl file as in the demo, or a folder of images"
)
parser.add_argument("--model", default=str(DEMO / "model"), help="name such as ViT-B-16, or path of weights")
parser.add_argument("--words", default="绿色", help="words to search for")
parser.add_argument("--image", type=Path, help="image to search by (default: a rotated, smaller image of the set)")
parser.add_argument("--question", default="图里有消防车吗？", help="question about the images")
parser.add_argument("--glm", default="glm-4v-flash", help="GLM model")
parser.add_argument("--output", type=Path, default=DEMO / "output", help="folder for the store, plots and pages")
settings = parser.parse_args([] if IN_NOTEBOOK else None)


def print_results(title: str, results: Sequence[NodeWithScore]) -> None:
    """Print score, id and caption of each result."""
    print(f"\n{title}\n{'score':>7}  {'id':>5}  caption")
    for result in results:
        print(f"{result.score:7.4f}  {result.node.node_id:>5}  {result.node.get_content()}")


def print_answer(question: str, response: RESPONSE_TYPE) -> None:
    """Print an answer and the images that it cites."""
    print(f"\nQuestion: {question}\nAnswer: {response}")
    sources = {source.node.node_id: source.node for source in response.source_nodes}
    for name, node_id in response.metadata["citations"].items():
        print(f"Cited as {name}: {node_id}  {sources[node_id].get_content()}")


def save(shown: Figure | Gallery, name: str) -> Figure | Gallery:
    """Save a plot or a gallery and print its path; a notebook displays the return value."""
    path = settings.output / name
    if isinstance(shown, Gallery):
        shown.save(path)
    else:
        shown.savefig(path, dpi=120)
    print(f"Saved {os.path.relpath(path)}")
    return shown


def query_image(nodes: Sequence[ImageNode]) -> Path:
    """Return the image of the option, or make one that is not in the set."""
    if settings.image is not None:
        return settings.image
    original = load_image(next((node for node in nodes if node.text == "红苹果"), nodes[0]))
    rotated = original.rotate(12, fillcolor="white").resize((original.width * 3 // 4, original.height * 3 // 4))
    path = settings.output / "query.jpg"
    rotated.save(path, quality=90)
    return path


# %% [markdown]
# ## 读取图片，看看其中五张 · Load the images and look at five of them

# %%
settings.output.mkdir(parents=True, exist_ok=True)
# The prefix of ids distinguishes several sources; here there is only one.
read = read_folder if settings.data.is_dir() else read_jsonl
nodes = read(settings.data, id_prefix="")
captioned = sum(bool(node.text) for node in nodes)
print(f"Loaded {len(nodes)} images, {captioned} of them with captions, from {os.path.relpath(settings.data)}")

five = nodes[:: max(1, len(nodes) // 5)][:5]
save(plot_results(None, five), "five_images.png")

# %% [markdown]
# ## 判断图片属于哪个标签 · Classify an image: probabilities of labels

# %%
embed_model = ChineseClipEmbedding(settings.model)
labels = [node.text for node in five if node.text] or ["飞机", "汽车", "动物", "人物", "风景"]
print(f"Probabilities of labels for image {five[0].node_id}:")
for label, probability in zip(labels, embed_model.similarity(five[0], labels)[0], strict=True):
    print(f"{probability:7.4f}  {label}")

# %% [markdown]
# ## 建立索引 · Build the index
# 进度条每前进一步，就有一批数据写入了磁盘。
#
# Each batch is on disk when the progress bar advances.

# %%
store = settings.output / f"{settings.data.stem}-{Path(settings.model).name}"
index = build_index(nodes, embed_model=embed_model, persist_dir=store, show_progress=True)
print(f"Indexed {len(nodes)} images into {os.path.relpath(store)}")

# %% [markdown]
# ## 按文字、按图片检索 · Search by words and by image

# %%
retriever = index.as_retriever(similarity_top_k=5)
found = retriever.retrieve(settings.words)
print_results(f"Images for the words {settings.words}", found)

# %%
image = query_image(nodes)
found_by_image = retriever.retrieve(QueryBundle("", image_path=str(image)))
print_results(f"Images like {os.path.relpath(image)}", found_by_image)

# %% [markdown]
# ## 关闭索引，再从磁盘加载 · Close the index and load it again

# %%
index.close()
del index, retriever, embed_model

embed_model = ChineseClipEmbedding(settings.model)
index = load_index(store, embed_model=embed_model)
again = index.as_retriever(similarity_top_k=5).retrieve(settings.words)
same = [result.node.node_id for result in again] == [result.node.node_id for result in found]
print(f"\nLoaded the index again from disk; it finds {'the same images' if same else 'other images'}.")

# %% [markdown]
# ## 画出结果 · Plot the results

# %%
save(plot_results(settings.words, found), "by_words.png")

# %%
save(plot_results(image, found_by_image), "by_image.png")

# %% [markdown]
# ## 用文字提问 · Ask by words
# 查询引擎为问题检索图片，把它们连同编号、相似度和描述发给模型。回答用编号引用图片，
# `response.metadata` 把这些引用对应到节点 id。
#
# The query engine finds images for the question and sends them to the model with number, similarity and caption. The
# answer cites images by number, and `response.metadata` maps these citations to node ids.

# %%
llm = connect_glm(settings.glm)
engine = index.as_query_engine(llm=llm, similarity_top_k=3)
response = engine.query(settings.question)
print_answer(settings.question, response)

# %% [markdown]
# 画廊把回答和图片放在一起，每个 [图1] 都可以点击。notebook 直接显示它，`save` 把它存成网页。
#
# A gallery shows the answer with its images; each [图1] is a link. Notebooks display it, and `save` writes a page.

# %%
save(show(settings.question, response), "answer.html")

# %% [markdown]
# ## 就自己的图片提问 · Ask about an image of your own
# 引擎检索相似的图片，先把你的图片发给模型，再发这些图片。
#
# The engine finds similar images. The model gets your image first, then these.

# %%
engine = index.as_query_engine(llm=llm, similarity_top_k=3, query_mode="image")
query = QueryBundle("我的图片里是什么？", image_path=str(image))
print_answer(query.query_str, engine.query(query))

# %% [markdown]
# ## 按写着的字找到页面 · Find pages by what is written on them
# 幻灯片、扫描件和截图里的字是像素。OCR 把它们读出来（可选依赖 `ocr`），全文检索就能找到这些页面。
# 这两页取自一本汽车手册，不带文字层。
#
# Slides, scans and screenshots are images whose words are pixels. OCR reads them (extra `ocr`), and full text search
# finds the pages. These two are drawn from a car manual, without its text.

# %%
folder = settings.output / "pages"
folder.mkdir(exist_ok=True)
for number, page in enumerate(islice(PageReader().lazy_load_data(CASES / "car_maintenance.pdf"), 2), start=1):
    load_image(page).save(folder / f"{number}.png")
pages = build_index(read_folder(folder, id_prefix=""), embed_model=embed_model, ocr=True)
question = "胎压太低会有什么危害？"
found_pages = pages.as_retriever(similarity_top_k=2).retrieve(question)
print(f"\nPages for {question}")
for result in found_pages:
    print(f"{result.score:7.4f}  {result.node.node_id}  {page_text_of(result.node).splitlines()[1]}")
save(plot_results(question, found_pages), "pages.png")

# %% [markdown]
# ## 在终端里继续 · Go on in the terminal
# 命令 `mmzhipu` 可以检索同一个索引，不写 Python 也能建立别的索引。
#
# The command `mmzhipu` searches the same index, and builds others without any Python.

# %%
mmzhipu = "mmzhipu" if shutil.which("mmzhipu") else os.path.relpath(Path(sys.executable).with_name("mmzhipu"))
print(f"\nGo on in the terminal: {mmzhipu} search {settings.words} --store {os.path.relpath(store)}")
print("Other commands: index, ask, chat, info, evaluate, export, import, doctor, serve (a page), mcp (for agents).")

# %%
pages.close()
index.close()
llm.close()
