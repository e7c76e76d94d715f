"""Certificates for HTTPS, read once per process: reading them takes 20 ms, more than a request on a fast network."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache


def tls_context() -> ssl.SSLContext:
    """Return the context for clients: certifi's certificates, or those that the environment names.

    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` are followed as httpx does, also when they change in a running process.

    Raises:
        OSError: The environment names certificates that cannot be read.
    """
    return _context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _context(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    import httpx

    # httpx reads the environment by itself: the arguments are the key of the cache.
    return httpx.create_ssl_context()
