"""Programs that tests run in a Python process of their own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

# A shell without job control starts what runs in the background with SIGINT ignored, and children inherit that.
_HEED_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def start_program(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start Python code that Ctrl-C interrupts, in whatever way the suite itself was started.

    Args:
        code: The program.
        *arguments: Its ``sys.argv[1:]``.
        **options: Of ``subprocess.Popen``; input and output are text.
    """
    command = [sys.executable, "-c", _HEED_CTRL_C + code, *map(str, arguments)]
    return subprocess.Popen(command, text=True, **options)
