"""Starts Python programs in separate processes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

# A shell without job control ignores SIGINT in background processes, and their children inherit this.
_ENABLE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def start_program(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start a Python program that Ctrl-C interrupts, no matter how the tests were started.

    Args:
        code: The program.
        *arguments: Its command-line arguments.
        **options: Further arguments of ``subprocess.Popen``; input and output are text.
    """
    command = [sys.executable, "-c", _ENABLE_CTRL_C + code, *map(str, arguments)]
    return subprocess.Popen(command, text=True, **options)
