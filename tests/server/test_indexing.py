"""``/api/index``: files that are added, left out, broken, or of readers that leave."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest
from api import Api, Serve, error_of, events_of, status_of_announced
from PIL import Image
from waiting import wait_until

from llama_index_mm_zhipu.server.uploads import Upload, Uploads, refusal_of, renamed
from llama_index_mm_zhipu.service.image_service import ImageService
from llama_index_mm_zhipu.vector_store.errors import StoreError


def jpeg(colour: str, size: tuple[int, int] = (64, 48)) -> bytes:
    data = BytesIO()
    Image.new("RGB", size, colour).save(data, "JPEG")
    return data.getvalue()


def saved_in(store: Path) -> list[str]:
    """Return the names of the files that users added."""
    # A server may be deleting some of them.
    return sorted(name for _, _, names in os.walk(store / "uploads") for name in names)


def test_added_images_are_found_at_once_and_after_a_restart(changing_api: Api, own_store: Path, serve: Serve) -> None:
    response = changing_api.add([("照片/绿色 的.jpg", jpeg("green")), ("b.JPG", jpeg("blue"))])
    events = events_of(response.text)
    assert [event.name for event in events] == ["progress", "progress", "progress", "report"]
    assert [event.data["done"] for event in events[:-1]] == [0, 1, 2]
    assert events[0].data["total"] == 2
    report = events[-1].data
    assert (report["images"], report["new_images"], report["skipped"]) == (12, 2, {})
    assert saved_in(own_store) == ["b.JPG", "绿色 的.jpg"]
    [found] = [each for each in changing_api.found(jpeg("green")) if "绿色" in each]
    assert changing_api.client.get(f"/api/images/{found}").status_code == 200
    assert found in serve(own_store).found(jpeg("green"))


def test_the_same_image_is_kept_and_another_of_the_same_name_does_not_replace_it(
    changing_api: Api, own_store: Path
) -> None:
    assert changing_api.added(("a.jpg", jpeg("green")))["new_images"] == 1
    again = changing_api.added(("a.jpg", jpeg("green")))
    assert (again["new_images"], again["kept"]) == (0, 1)
    assert changing_api.added(("a.jpg", jpeg("red")))["images"] == 12
    assert saved_in(own_store) == ["a.jpg", "a.jpg"]
    twice = changing_api.added(("一/c.jpg", jpeg("blue")), ("二/c.jpg", jpeg("blue")))
    assert (twice["new_images"], twice["skipped"]) == (1, {})


def test_bad_files_are_left_out_with_their_reasons_and_are_not_kept(changing_api: Api, own_store: Path) -> None:
    report = changing_api.added(
        ("好.jpg", jpeg("green")),
        ("坏.jpg", b"\xff\xd8\xff broken"),
        ("空.jpg", b""),
        ("名单.jsonl", b'{"image_path": "/etc/passwd"}'),
        ("笔记.txt", b"text"),
        ("坏.pdf", b"%PDF-1.7 broken"),
        ("无后缀", jpeg("red")),
    )
    assert report["new_images"] == 1
    assert set(report["skipped"]) == {"坏.jpg", "空.jpg", "名单.jsonl", "笔记.txt", "坏.pdf", "无后缀"}
    assert report["skipped_count"] == 6
    assert str(own_store) not in str(report["skipped"])
    assert saved_in(own_store) == ["好.jpg"]
    assert changing_api.added(("坏.png", b"x"))["skipped_count"] == 1


def test_pages_of_a_pdf_are_added(changing_api: Api, own_store: Path) -> None:
    data = BytesIO()
    pages = [Image.new("RGB", (200, 100), colour) for colour in ("red", "green", "blue")]
    pages[0].save(data, "PDF", save_all=True, append_images=pages[1:])
    report = changing_api.added(("讲义.pdf", data.getvalue()))
    assert (report["new_images"], report["skipped"]) == (3, {})
    assert saved_in(own_store) == ["讲义.pdf"]


@pytest.mark.parametrize(
    "name", ["../../../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "..\\..\\evil.jpg", "C:\\evil.jpg"]
)
def test_names_cannot_leave_the_folder(changing_api: Api, own_store: Path, name: str) -> None:
    assert changing_api.added((name, jpeg("red")))["new_images"] == 1
    [path] = [each for each in (own_store / "uploads").rglob("*") if each.is_file()]
    assert path.name in ("evil.jpg", "C__evil.jpg")
    assert path.parent.parent == own_store / "uploads"


def test_a_reader_that_leaves_stops_the_run_and_what_is_done_is_stored(changing_api: Api, own_store: Path) -> None:
    files = [("files", (f"{number}.png", _noise(number))) for number in range(60)]
    with changing_api.client.stream("POST", "/api/index", files=files) as response:
        next(response.iter_text())
    # Whether it was stopped early depends on the machine; nothing is half done.
    service = ImageService.open(own_store)

    def agrees() -> bool:
        return service.index.image_store.count() == 10 + len(saved_in(own_store))

    try:
        assert wait_until(agrees)
    finally:
        service.close()
    # The same files go on where it ended.
    *_, last = events_of(changing_api.client.post("/api/index", files=files).text)
    assert last.data["images"] == 70


def _noise(number: int) -> bytes:
    data = BytesIO()
    Image.effect_noise((256, 256), 100 + number).save(data, "PNG")
    return data.getvalue()


def test_a_server_that_is_read_only_refuses(api: Api) -> None:
    assert error_of(api.add([("a.jpg", jpeg("red"))]))[:2] == (403, "forbidden")
    assert api.client.get("/api/status").json()["can_add"] is False


def test_other_forms_are_refused(changing_api: Api) -> None:
    client = changing_api.client
    one = ("a.jpg", jpeg("red"))
    for response in (
        client.post("/api/index", files={"image": one}),
        client.post("/api/index", files={"files": one}, data={"ocr": "1"}),
        client.post("/api/index", files=[("files", one)] * 65),
    ):
        assert error_of(response)[:2] == (400, "bad_request")
    assert error_of(client.post("/api/index", json={"paths": ["/etc"]}))[:2] == (415, "unsupported")


def test_files_that_are_too_large_are_refused_by_their_type() -> None:
    assert refusal_of("a.jpg", 65_000_000) == "the file has 65.0 MB; at most 64.0 MB can be added"
    assert refusal_of("a.pdf", 65_000_000) is None
    assert refusal_of("a.pdf", 501_000_000) is not None
    assert refusal_of("a.jpg", 1) is None


@pytest.mark.parametrize(
    "name", ["x" * 300 + ".jpg", "图" * 300 + ".jpg", ".jpg", "a." + "b" * 300, "\x00\n.jpg", "\udce9.jpg"]
)
def test_any_name_can_be_saved(tmp_path: Path, name: str) -> None:
    uploads = Uploads(tmp_path, lambda path: False)
    upload = uploads.save(BytesIO(b"content"), name)
    assert upload.path.read_bytes() == b"content"
    assert upload.path.parent.parent == tmp_path
    uploads.release([upload])
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_kept_while_another_request_uses_it_and_if_it_is_indexed(tmp_path: Path) -> None:
    indexed: set[Path] = set()
    uploads = Uploads(tmp_path, indexed.__contains__)
    first, second, named = (uploads.save(BytesIO(b"content"), name) for name in ("a.jpg", "a.jpg", "b.jpg"))
    assert first.path == second.path != named.path
    uploads.release([first])
    assert not uploads.wait_until_unused(0)
    assert first.path.is_file()
    indexed.add(second.path)
    uploads.release([second, named])
    assert uploads.wait_until_unused(0)
    assert [*first.path.parent.iterdir()] == [first.path]
    # It was there before.
    uploads.release([uploads.save(BytesIO(b"content"), "a.jpg")])
    assert first.path.is_file()


def test_files_are_kept_if_the_index_cannot_be_asked(tmp_path: Path) -> None:
    def fail(path: Path) -> bool:
        raise StoreError("the index is closed")

    uploads = Uploads(tmp_path, fail)
    upload = uploads.save(BytesIO(b"content"), "a.jpg")
    uploads.release([upload])
    assert upload.path.is_file()
    assert uploads.wait_until_unused(0)


def test_a_file_that_cannot_be_written_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_bytes(b"")
    uploads = Uploads(folder, lambda path: False)
    with pytest.raises(OSError, match="file"):
        uploads.save(BytesIO(b"content"), "a.jpg")
    assert uploads.wait_until_unused(0)


def test_messages_have_the_names_that_users_know(tmp_path: Path) -> None:
    path = tmp_path / "0123456789abcdef" / "a.jpg"
    upload = Upload(r"照片\a.jpg", path)
    assert (
        renamed(f"{path} is no image (0123456789abcdef-1f2e3d/a.jpg)", [upload])
        == r"照片\a.jpg is no image (照片\a.jpg)"
    )


def test_the_limit_of_a_request_is_checked_before_it_is_read(changing_api: Api) -> None:
    assert status_of_announced(changing_api, "/api/index", 10**10) == 413
