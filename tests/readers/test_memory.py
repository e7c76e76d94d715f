"""The memory use of readers does not grow with the size of the file."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from videos import scene, write_video

MEBIBYTE = 1 << 20
MAX_MEBIBYTES = 200
"""Limit for the whole process; Python with the imports of the readers takes about 105 MiB."""

PEAK = """
import resource, sys
from pathlib import Path
from llama_index_mm_zhipu.readers import *
count = sum(1 for _ in {reader})
status = Path("/proc/self/status")
if status.exists():
    # ru_maxrss would be the peak of the parent process if that is higher.
    peak = int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20
print(count, peak)
"""


@pytest.fixture
def image(photos: list[Path]) -> str:
    """A photograph of about a megabyte in base64: JPEG decoders ignore bytes after the end of the image."""
    return base64.b64encode(photos[0].read_bytes().ljust(3 * MEBIBYTE // 4, b"\0")).decode()


def read_in_new_process(reader: str) -> tuple[int, int, str]:
    """Return the number of images, the peak memory in MiB, and stderr."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK.format(reader=reader)], capture_output=True, text=True, check=True
    )
    count, peak = done.stdout.split()
    return int(count), int(peak), done.stderr


@pytest.mark.parametrize(
    "mebibytes", [pytest.param(256, marks=pytest.mark.integration), pytest.param(2048, marks=pytest.mark.slow)]
)
def test_memory_does_not_grow_with_a_tsv(tmp_path: Path, image: str, mebibytes: int) -> None:
    with (tmp_path / "train_imgs.tsv").open("w") as tsv:
        tsv.writelines(f"{number}\t{image}\n" for number in range(mebibytes))
    (tmp_path / "train_texts.jsonl").write_text('{"text_id": 1, "text": "猫", "image_ids": [1]}\n', encoding="utf-8")

    count, peak, shown = read_in_new_process(
        f"ChineseClipReader(show_progress=True).lazy_load_data({str(tmp_path)!r}, 'train')"
    )

    assert count == mebibytes
    assert peak <= MAX_MEBIBYTES
    assert "Reading train_imgs.tsv: 100%" in shown


def test_memory_does_not_grow_with_a_csv_in_gbk(tmp_path: Path, image: str) -> None:
    with (tmp_path / "goods.csv").open("w", encoding="gbk") as table:
        table.write("编号,图,标题,价格\n")
        table.writelines(f"{number},{image},一条裙子,{number}.5\n" for number in range(128))
    reader = "ColumnReader(Columns(base64='图', id='编号', caption='标题', metadata=('价格',)))"
    count, peak, _ = read_in_new_process(f"{reader}.lazy_load_data({str(tmp_path / 'goods.csv')!r})")
    assert count == 128
    assert peak <= MAX_MEBIBYTES


@pytest.mark.slow
def test_memory_does_not_grow_with_a_json_array_on_one_line(tmp_path: Path, image: str) -> None:
    record = json.dumps({"id": "%d", "data": image, "caption": "猫"}, ensure_ascii=False)
    with (tmp_path / "a.json").open("w", encoding="utf-8") as array:
        array.write("[")
        array.writelines(f"{',' if number else ''}{record % number}" for number in range(512))
        array.write("]")
    reader = "ColumnReader(Columns(base64='data', id='id'))"
    count, peak, _ = read_in_new_process(f"{reader}.lazy_load_data({str(tmp_path / 'a.json')!r})")
    assert count == 512
    assert peak <= MAX_MEBIBYTES


@pytest.mark.integration
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path, photos: list[Path]) -> None:
    scenes = [(scene(photo), 3) for photo in photos]
    peaks = []
    for repeats in (1, 30):
        video = write_video(tmp_path / f"{repeats}.mp4", scenes * repeats)
        count, peak, _ = read_in_new_process(f"VideoReader().lazy_load_data({str(video)!r})")
        assert count == 10 * repeats
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 20
