"""Images are fetched from URLs only if allowed, only from allowed addresses, and within limits of time and size."""

from __future__ import annotations

import gzip
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import ImageNode
from PIL import Image
from serving import serving
from waiting import PATIENCE

from llama_index_mm_zhipu.images import (
    ImageError,
    UrlRules,
    load_image,
    load_resized,
    open_image,
    read_bytes,
)

HERE = UrlRules(allowed=True, allow_private=True, timeout=PATIENCE)
PUBLIC = UrlRules(allowed=True, timeout=PATIENCE)
HURRIED = UrlRules(allowed=True, allow_private=True, timeout=0.4)
SMALL = UrlRules(allowed=True, allow_private=True, max_bytes=100_000, timeout=PATIENCE)

PUBLIC_ADDRESS = "93.184.215.14"


def _image() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (40, 30), "green").save(buffer, "PNG")
    return buffer.getvalue()


IMAGE = _image()


class Handler(BaseHTTPRequestHandler):
    """Answers a path with the function of ``ANSWERS`` that its first part names."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        self.close_connection = True
        # The client may close the connection.
        with suppress(OSError):
            ANSWERS[self.path.split("?")[0].split("/")[1]](self)

    def log_message(self, *args: object) -> None:
        pass

    def send(self, body: bytes = b"", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def trickle(self, piece: bytes) -> None:
        """Send a piece again and again until the client closes the connection."""
        while not self.server.closing.wait(0.02):
            self.wfile.write(piece)


class Server(ThreadingHTTPServer):
    """HTTP server on loopback that records requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()
        self.sent_everything = False
        self.url = f"http://127.0.0.1:{self.server_port}"


def endless(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(10_000):
        handler.wfile.write(bytes(1 << 16))
    handler.server.sent_everything = True


def slow_body(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.trickle(b"x")


def slow_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    handler.trickle(b"x")


def chunked(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for piece in (IMAGE[:10], IMAGE[10:], b""):
        handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")


def chunked_and_cut(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"ff\r\nabc")


def hop(handler: Handler) -> None:
    """Redirect as often as the number in the path says."""
    left = int(handler.path.split("?")[0].split("/")[2])
    handler.send(status=302, Location=f"/hop/{left - 1}" if left > 1 else "../image")


def unicode_redirect(handler: Handler) -> None:
    handler.send(status=301, Location="/image?名".encode().decode("latin-1"))


ANSWERS: dict[str, Callable[[Handler], None]] = {
    "image": lambda handler: handler.send(IMAGE),
    "image-201": lambda handler: handler.send(IMAGE, status=201),
    "chunked": chunked,
    "unknown-length": lambda handler: handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + IMAGE),
    "gzip": lambda handler: handler.send(gzip.compress(IMAGE), Content_Encoding="gzip"),
    "deflate": lambda handler: handler.send(zlib.compress(IMAGE), Content_Encoding="deflate"),
    "no-gzip": lambda handler: handler.send(IMAGE, Content_Encoding="gzip"),
    "gzip-bomb": lambda handler: handler.send(gzip.compress(bytes(50 << 20)), Content_Encoding="gzip"),
    "page": lambda handler: handler.send(b"<!DOCTYPE html><html></html>", Content_Type="text/html"),
    "nothing": lambda handler: handler.send(),
    "gone": lambda handler: handler.send(b"gone", status=404),
    "broken": lambda handler: handler.send(b"broken", status=500),
    "greeting": lambda handler: handler.wfile.write(b"220 mail.example.com ESMTP\r\n"),
    "garbage": lambda handler: handler.wfile.write(b"220 mail.example.com ESMTP\r\n\r\n"),
    "hang-up": lambda handler: None,
    "too-long": lambda handler: handler.send(IMAGE, Content_Length=str(len(IMAGE) + 7)),
    "too-short": lambda handler: handler.send(IMAGE, Content_Length=str(len(IMAGE) - 40)),
    "large": lambda handler: handler.send(b"", Content_Length=str(1 << 40)),
    "chunked-and-cut": chunked_and_cut,
    "endless": endless,
    "slow-body": slow_body,
    "slow-headers": slow_headers,
    "silent": lambda handler: handler.server.closing.wait(),
    "hop": hop,
    "loop": lambda handler: handler.send(status=307, Location="/loop"),
    "nowhere": lambda handler: handler.send(status=302),
    "unicode": unicode_redirect,
    "to-file": lambda handler: handler.send(status=302, Location="file:///etc/passwd"),
    "to-ftp": lambda handler: handler.send(status=302, Location="ftp://me:s3cr3t@example.com/a.jpg"),
    "to-invalid-url": lambda handler: handler.send(status=302, Location="http://s3cr3t@a:99999/"),
    "to-private": lambda handler: handler.send(status=302, Location="http://10.1.2.3/a.jpg?s3cr3t"),
    "to-gone": lambda handler: handler.send(status=302, Location="/gone?s3cr3t"),
}


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    with serving(running):
        yield running
        running.closing.set()


@pytest.mark.parametrize(
    "path", ["image", "image-201", "chunked", "unknown-length", "gzip", "deflate", "hop/1", "hop/5", "unicode"]
)
def test_images_are_fetched(server: Server, path: str) -> None:
    assert read_bytes(f"{server.url}/{path}", urls=HERE) == IMAGE


def test_every_loading_function_fetches_a_url(server: Server) -> None:
    node = ImageNode(image_url=f"{server.url}/image")
    assert load_image(node, urls=HERE).size == (40, 30)
    assert load_resized(node, 8, urls=HERE).size == (8, 8)
    with open_image(node, urls=HERE) as image:
        assert image.format == "PNG"


@pytest.mark.parametrize("read", [read_bytes, load_image, lambda source: load_resized(source, 8)])
def test_urls_are_refused_unless_they_are_allowed(server: Server, read: Callable[[Any], object]) -> None:
    with pytest.raises(ImageError, match=r"/image is a URL and URLs are not fetched; set allow_urls=True$"):
        read(ImageNode(image_url=f"{server.url}/image"))
    assert server.requests == []


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("gone", "/gone answered 404; check the URL"),
        ("broken", "/broken answered 500; check the URL"),
        ("greeting", "^cannot fetch the image .*/greeting: Server disconnected"),
        ("garbage", "^cannot fetch the image .*/garbage: .*220 mail"),
        ("hang-up", "^cannot fetch the image .*/hang-up: Server disconnected"),
        ("no-gzip", "^cannot fetch the image .*/no-gzip: .*incorrect header"),
        ("page", "/page is not an image"),
        ("nothing", "/nothing is empty"),
        ("too-long", "/too-long was cut off: 7 bytes are missing; try again"),
        ("too-short", "/too-short is damaged: "),
        ("chunked-and-cut", "^cannot fetch the image .*/chunked-and-cut: "),
        ("loop", "/loop redirects more than 5 times; check the URL"),
        ("hop/6", "/hop/6 redirects more than 5 times; check the URL"),
        ("nowhere", "/nowhere redirects without a Location header"),
        ("to-file", "/to-file redirects to a file: URL, which is not fetched"),
        ("to-ftp", "/to-ftp redirects to a ftp: URL, which is not fetched"),
        ("to-invalid-url", "/to-invalid-url redirects to an invalid URL"),
        ("to-gone", r"/to-gone, redirected to http://127\.0\.0\.1:\d+/gone, answered 404"),
    ],
)
def test_failed_responses_are_refused_with_the_reason(server: Server, path: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        load_image(f"{server.url}/{path}?token=s3cr3t", urls=HERE)
    assert "s3cr3t" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.requests) <= 6


@pytest.mark.parametrize("path", ["endless", "large", "gzip-bomb"])
def test_large_responses_are_refused(server: Server, path: str) -> None:
    with pytest.raises(ImageError, match=f"/{path} is larger than 100,000 bytes; download and shrink it first"):
        read_bytes(f"{server.url}/{path}", urls=SMALL)
    assert not server.sent_everything


@pytest.mark.parametrize("path", ["slow-body", "slow-headers", "silent"])
def test_slow_responses_time_out(server: Server, path: str) -> None:
    # The server never finishes its response.
    with pytest.raises(ImageError, match=f"/{path} did not answer in 0.4 seconds; try again"):
        read_bytes(f"{server.url}/{path}", urls=HURRIED)


def test_a_slow_resolver_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **options: answered.wait())
    with pytest.raises(ImageError, match=r"did not answer in 0\.4 seconds"):
        read_bytes("http://example.com/a.jpg", urls=HURRIED)
    answered.set()


@pytest.mark.parametrize("url", ["http:///a.jpg", "http://[::1", "http://a:99999/", "https://", "http://a\nb/"])
def test_invalid_urls_are_refused(url: str) -> None:
    with pytest.raises(ImageError, match=r"is not a valid http\(s\) URL; check it"):
        read_bytes(url, urls=HERE)


@pytest.mark.parametrize("host", ["nobody.invalid", "a" * 70 + ".com"])
def test_unknown_hosts_are_named(host: str) -> None:
    with pytest.raises(ImageError, match=f"^cannot fetch the image http://{host}/a.jpg: .*; check the URL"):
        read_bytes(f"http://{host}/a.jpg", urls=HERE)


def test_a_closed_port_is_named() -> None:
    with pytest.raises(ImageError, match=r"^cannot fetch the image http://127\.0\.0\.1:9/a\.jpg: Connection refused"):
        read_bytes("http://127.0.0.1:9/a.jpg", urls=HERE)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("localhost", "(127.0.0.1|::1)"),
        ("0.0.0.0", "0.0.0.0"),
        ("10.0.0.1", "10.0.0.1"),
        ("172.16.0.1", "172.16.0.1"),
        ("192.168.1.1", "192.168.1.1"),
        ("169.254.169.254", "169.254.169.254"),
        ("100.64.0.1", "100.64.0.1"),
        ("224.0.0.1", "224.0.0.1"),
        ("255.255.255.255", "255.255.255.255"),
        ("[::1]", "::1"),
        ("[::]", "::"),
        ("[fe80::1]", "fe80::1"),
        ("[fd00::1]", "fd00::1"),
        ("[fec0::1]", "fec0::1"),
        ("[ff02::1]", "ff02::1"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("[2002:7f00:1::]", "2002:7f00:1::"),
        ("[64:ff9b::10.0.0.1]", "64:ff9b::a00:1"),
        ("me:s3cr3t@10.0.0.1", "10.0.0.1"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_private_addresses_are_refused(scheme: str, host: str, address: str) -> None:
    expected = rf"/a\.jpg leads to the private address {address}; set allow_private_urls=True if that is meant$"
    with pytest.raises(ImageError, match=expected) as caught:
        load_image(f"{scheme}://{host}/a.jpg?s3cr3t", urls=PUBLIC)
    assert "s3cr3t" not in str(caught.value)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, server: Server) -> dict[str, list[list[str]]]:
    """Answers of a fake resolver by host name, one list of addresses per lookup; the public address is the server."""
    answers: dict[str, list[list[str]]] = {}
    connect = socket.socket.connect

    def resolve(host: str, port: int, **options: Any) -> list[Any]:
        addresses = answers[host].pop(0) if host in answers else [host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    def connect_here(connection: socket.socket, address: Any) -> None:
        connect(connection, ("127.0.0.1", server.server_port) if address[0] == PUBLIC_ADDRESS else address)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket.socket, "connect", connect_here)
    return answers


def test_a_host_name_is_looked_up_once(names: dict[str, list[list[str]]], server: Server) -> None:
    """A second lookup would give a private address (DNS rebinding)."""
    names["example.com"] = [[PUBLIC_ADDRESS], ["127.0.0.1"]]
    assert read_bytes("http://example.com/image", urls=PUBLIC) == IMAGE
    assert names["example.com"] == [["127.0.0.1"]]
    assert server.requests[0][1]["Host"] == "example.com"


def test_one_private_address_among_others_is_refused(names: dict[str, list[list[str]]], server: Server) -> None:
    names["example.com"] = [[PUBLIC_ADDRESS, "10.0.0.1"]]
    with pytest.raises(ImageError, match=r"leads to the private address 10\.0\.0\.1"):
        read_bytes("http://example.com/image", urls=PUBLIC)
    assert server.requests == []


def test_every_redirect_is_checked(names: dict[str, list[list[str]]], server: Server) -> None:
    names["example.com"] = [[PUBLIC_ADDRESS]]
    expected = (
        r"^http://example\.com/to-private, redirected to http://10\.1\.2\.3/a\.jpg, leads to the private address 10\.1"
    )
    with pytest.raises(ImageError, match=expected):
        read_bytes("http://example.com/to-private", urls=PUBLIC)


def test_the_next_address_is_tried(names: dict[str, list[list[str]]]) -> None:
    # Nothing listens at the first address.
    names["example.com"] = [["127.0.0.9", PUBLIC_ADDRESS]]
    assert read_bytes("http://example.com:9/image", urls=HERE) == IMAGE


def test_secrets_are_sent_and_not_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = server.url.replace("://", "://me:s3cr3t%21@") + "/image?token=s3cr3t#s3cr3t"
    assert read_bytes(url, urls=HERE) == IMAGE
    path, headers = server.requests[0]
    assert path == "/image?token=s3cr3t"
    assert headers["Authorization"] == "Basic bWU6czNjcjN0IQ=="
    with pytest.raises(ImageError):
        read_bytes(f"{server.url}/to-gone", urls=HERE)
    assert server.requests[-1][0] == "/gone?s3cr3t"
    assert "s3cr3t" not in caplog.text


def test_proxies_of_the_environment_are_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert read_bytes(f"{server.url}/image", urls=HERE) == IMAGE


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_certificates_are_checked_against_the_name(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "certificate.pem"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://localhost:{server.server_port}/image"

    with pytest.raises(ImageError, match="certificate verify failed"):
        read_bytes(url, urls=HERE)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    assert read_bytes(url, urls=HERE) == IMAGE
    with pytest.raises(ImageError, match="certificate verify failed"):
        read_bytes(url.replace("localhost", "127.0.0.1"), urls=HERE)
