"""Slides as PDF files, by LibreOffice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from llama_index_mm_zhipu.readers.errors import RecordError

SLIDES = (".pptx", ".ppt", ".odp")
"""Endings of the files that LibreOffice is asked to convert."""

TIMEOUT_SECONDS = 300

# Where LibreOffice's own installers put it, off the PATH.
_INSTALLED = (
    "/Applications/LibreOffice.app/Contents/MacOS/soffice",
    r"C:\Program Files\LibreOffice\program\soffice.exe",
)


def slides_to_pdf(file: Path, folder: Path) -> Path:
    """Convert slides.

    Args:
        file: The slides.
        folder: Where the PDF file goes.

    Returns:
        The PDF file.

    Raises:
        RecordError: LibreOffice is not there, or cannot read the file.
    """
    program = shutil.which("soffice") or next(filter(shutil.which, _INSTALLED), None)
    if program is None:
        raise RecordError(
            f"{file}: slides need LibreOffice to become pictures: install it (its soffice must be on the PATH), or "
            "save them as PDF"
        )
    # A profile of its own: an open LibreOffice would take the request over, and not answer.
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    command = [program, profile, "--headless", "--convert-to", "pdf", "--outdir", str(folder), str(file)]
    try:
        status, said = _run(command, folder / "said.txt")
    except subprocess.TimeoutExpired:
        raise RecordError(f"{file}: LibreOffice took longer than {TIMEOUT_SECONDS} s; save it as PDF") from None
    pdf = folder / f"{file.stem}.pdf"
    if not pdf.is_file():
        # Warnings stand above the error.
        reason = said.strip().splitlines()[-1:] or [f"exit status {status}"]
        raise RecordError(f"{file}: LibreOffice cannot convert it ({reason[0]})")
    return pdf


def _run(command: list[str], output: Path) -> tuple[int, str]:
    """Run LibreOffice, which starts further processes, and leave none of them behind."""
    # A file, not a pipe, which those processes would hold open.
    with output.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(timeout=TIMEOUT_SECONDS)
        except BaseException:
            _kill_all(process)
            raise
    return status, output.read_text(encoding="utf-8", errors="replace")


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        # They may be gone already.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
