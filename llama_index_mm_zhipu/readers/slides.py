"""Slides as PDF files, by LibreOffice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
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
        status, said = _run(command)
    except subprocess.TimeoutExpired:
        raise RecordError(f"{file}: LibreOffice took longer than {TIMEOUT_SECONDS} s; save it as PDF") from None
    pdf = folder / f"{file.stem}.pdf"
    if not pdf.is_file():
        # Warnings stand above the error.
        reason = said.strip().splitlines()[-1:] or [f"exit status {status}"]
        raise RecordError(f"{file}: LibreOffice cannot convert it ({reason[0]})")
    return pdf


def _run(command: list[str]) -> tuple[int, str]:
    """Run LibreOffice, which starts further processes, and leave none of them behind."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        said, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    except BaseException:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.communicate()
        raise
    return process.returncode, said
