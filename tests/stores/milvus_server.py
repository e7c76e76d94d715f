"""Runs a real Milvus server, which listens on all addresses, in a network namespace of its own.

``milvus_program.py`` runs inside the namespace.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from waiting import PATIENCE

WHEEL = "milvus==2.3.5"
_PROGRAM = Path(__file__).with_name("milvus_program.py")
_NAMESPACES = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


def reason_to_skip() -> str | None:
    """Return why no server can run here, or None."""
    if sys.platform != "linux" or not shutil.which("ip") or not shutil.which("unshare"):
        return "Milvus needs Linux with iproute2 and util-linux, for a network namespace of its own"
    if subprocess.run([*_NAMESPACES, "ip", "link", "set", "lo", "up"], capture_output=True).returncode:
        return "Milvus listens on all addresses and needs a network namespace of its own, which needs root"
    return None


def install_server(folder: Path) -> Path:
    """Install the wheel with the server into a folder of its own, and return the folder."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), WHEEL]
    subprocess.run(command, check=True)
    return folder


class MilvusServer:
    """A server with its data in a folder; it can be killed and started again at the same address.

    Args:
        package: Folder of ``install_server``.
        folder: Folder for data and logs.
    """

    def __init__(self, package: Path, folder: Path) -> None:
        self._package = package
        self._folder = folder
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Address for clients."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the server and wait until it answers, about 20 seconds."""
        with socket.create_server(("127.0.0.1", self._port)) as listener:
            self._port = listener.getsockname()[1]
            program = [sys.executable, str(_PROGRAM), str(listener.fileno()), str(self._package), str(self._folder)]
            self._process = subprocess.Popen(
                [*_NAMESPACES, *program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[listener.fileno()],
            )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"started\n":
            raise RuntimeError(f"Milvus did not start; its logs are in {self._folder}")

    def kill(self) -> None:
        """End the server and its relay at once, as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def stop(self) -> None:
        """Ask the server to end, and wait for it."""
        assert self._process is not None
        # The program inside ends when its input does, even if this process was killed.
        self._process.communicate(timeout=PATIENCE)


def call_when_ready(call: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Repeat a call until it raises no error: a server that was started again loads collections for a while."""
    end = time.monotonic() + seconds
    while True:
        try:
            call()
            return
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
