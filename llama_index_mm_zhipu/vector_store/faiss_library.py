"""The import of faiss, which every use of it goes through."""

from __future__ import annotations

import sys
from typing import Any


def load_faiss() -> Any:
    """Import faiss, with one OpenMP thread on macOS."""
    import faiss

    if sys.platform == "darwin":
        # torch and faiss each load an OpenMP runtime; more than one thread is reported to crash there.
        faiss.omp_set_num_threads(1)
    return faiss
