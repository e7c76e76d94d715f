"""Starts a Milvus server in this network namespace, and relays connections to it from outside.

Arguments: descriptor of a listening socket that was made outside, folder with the package ``milvus``, folder for data.
The program prints ``started`` when the server answers, and ends with its input.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 20):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _relay(listener: socket.socket, port: int) -> None:
    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))

    async with await asyncio.start_server(connect, sock=listener):
        print("started", flush=True)
        await asyncio.to_thread(sys.stdin.read)


def _serve(descriptor: int, package: str, folder: str) -> None:
    sys.path.insert(0, package)
    from milvus import MilvusServer as Server  # type: ignore[import-not-found]
    from milvus import MilvusServerConfig

    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    server = Server(MilvusServerConfig(data_dir=folder))
    server.start()
    asyncio.run(_relay(socket.socket(fileno=descriptor), server.listen_port))
    server.stop()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2], sys.argv[3])
