"""Bring an index up to date with a folder, as a job of cron, a systemd timer or Windows' Task Scheduler.

Embeds images that are new or have changed, removes those whose files are gone, and lists the files that cannot be read.
A run that begins while another one is at work ends at once. Without a folder it runs offline, over some demo images.

    python examples/daily_sync.py
    python examples/daily_sync.py /srv/photos --store /srv/store --model ViT-B-16

The exit status is 0 if the index is up to date, 1 if files were skipped, 2 after an error, and 3 if another run is at
work.
"""

import argparse
import sys
from itertools import islice
from pathlib import Path

from filelock import FileLock, Timeout

from llama_index_mm_zhipu import ChineseClipEmbedding, FaissMultiModalVectorStore, build_index, read_jsonl
from llama_index_mm_zhipu.images import read_bytes
from llama_index_mm_zhipu.index import has_index
from llama_index_mm_zhipu.vector_store import StoreError

DEMO = Path(__file__).parent / "demo"
UP_TO_DATE, SKIPPED, FAILED, BUSY = range(4)


def sync(folder: Path, store: Path, model: str) -> int:
    """Update the index, print what changed, and return the exit status."""
    before = count_images(store)
    index = build_index(folder, ChineseClipEmbedding(model), persist_dir=store, remove_missing=True, on_error="skip")
    try:
        images = index.image_store.count()
        new = images - before + index.removed_images
        print(f"{store}: {images:,} images, {new:,} new, {index.kept:,} unchanged, {index.removed_images:,} removed")
        for name, reason in index.skipped.items():
            print(f"skipped {name}: {reason}")
        return SKIPPED if index.skipped else UP_TO_DATE
    finally:
        index.close()


def count_images(store: Path) -> int:
    """Return how many images an index holds; 0 if there is none."""
    if not has_index(store):
        return 0
    with FaissMultiModalVectorStore(store, namespace="image") as images:
        return images.count()


def demo_folder() -> Path:
    """Write some demo images as files, and return their folder."""
    folder = DEMO / "output" / "emoji"
    folder.mkdir(parents=True, exist_ok=True)
    for node in islice(read_jsonl(DEMO / "test.jsonl", id_prefix=""), 50):
        (folder / f"{node.node_id}.jpg").write_bytes(read_bytes(node))
    return folder


def main() -> int:
    """Run the job under a lock, and return the exit status."""
    parser = argparse.ArgumentParser(description="Bring an index up to date with a folder.")
    parser.add_argument("folder", nargs="?", type=Path, help="folder of images (default: some demo images)")
    parser.add_argument("--store", type=Path, default=DEMO / "output" / "sync", help="folder of the index")
    parser.add_argument("--model", default=str(DEMO / "model"), help="name such as ViT-B-16, or path of weights")
    settings = parser.parse_args()
    settings.store.parent.mkdir(parents=True, exist_ok=True)
    # Two writers do no harm to the store, but both would embed the same images. The operating system releases the lock
    # when the process ends, even if it is killed.
    lock = FileLock(f"{settings.store}.lock")
    try:
        with lock.acquire(timeout=0):
            return sync(settings.folder or demo_folder(), settings.store, settings.model)
    except Timeout:
        print(f"{settings.store}: another run is at work", file=sys.stderr)
        return BUSY
    # What was stored before the error stays, and the next run goes on from there.
    except (OSError, StoreError, ValueError) as error:
        print(f"{settings.store}: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
