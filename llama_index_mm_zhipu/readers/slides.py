"""Slides as PDF files, by LibreOffice."""

from __future__ import annotations

import shutil
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
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise RecordError(f"{file}: LibreOffice took longer than {TIMEOUT_SECONDS} s; save it as PDF") from None
    pdf = folder / f"{file.stem}.pdf"
    if not pdf.is_file():
        # Warnings stand above the error.
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise RecordError(f"{file}: LibreOffice cannot convert it ({said[0]})")
    return pdf
