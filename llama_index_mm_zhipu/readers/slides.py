"""Slides become PDF files by LibreOffice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from llama_index_mm_zhipu.readers.records import RecordError

SLIDE_SUFFIXES = (".pptx", ".ppt", ".odp")
"""Suffixes of files that LibreOffice converts to PDF."""

LIBREOFFICE_SECONDS = 300

# LibreOffice's installers put it here, outside of PATH.
_INSTALLED = (
    "/Applications/LibreOffice.app/Contents/MacOS/soffice",
    r"C:\Program Files\LibreOffice\program\soffice.exe",
)


def find_libreoffice() -> str | None:
    """Return the path of LibreOffice's program; None if it is not installed."""
    return shutil.which("soffice") or next(filter(shutil.which, _INSTALLED), None)


def slides_to_pdf(file: Path, folder: Path) -> Path:
    """Convert slides with LibreOffice, and return the PDF file.

    Args:
        file: The slides.
        folder: Folder for the PDF file.

    Raises:
        RecordError: LibreOffice is not installed, cannot read the file, or takes too long.
    """
    program = find_libreoffice()
    if program is None:
        raise RecordError(
            str(file),
            "slides need LibreOffice to become images: install it (its soffice must be on the PATH), or save them as "
            "PDF",
        )
    # With the default profile, a running LibreOffice would take over the request and this process would not wait.
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    command = [program, profile, "--headless", "--convert-to", "pdf", "--outdir", str(folder), str(file)]
    try:
        status, output = _run(command, folder / "output.txt")
    except subprocess.TimeoutExpired:
        raise RecordError(str(file), f"LibreOffice took longer than {LIBREOFFICE_SECONDS} s; save it as PDF") from None
    pdf = folder / f"{file.stem}.pdf"
    if not pdf.is_file():
        # The last line is the error, earlier lines are warnings.
        reason = output.strip().splitlines()[-1:] or [f"exit status {status}"]
        raise RecordError(str(file), f"LibreOffice cannot convert it ({reason[0]})")
    return pdf


def _run(command: list[str], output: Path) -> tuple[int, str]:
    """Run LibreOffice, and return exit status and output; on errors all its processes are killed."""
    # The output goes to a file: further processes that LibreOffice starts would keep a pipe open.
    with output.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(timeout=LIBREOFFICE_SECONDS)
        except BaseException:
            _kill_process_group(process)
            raise
    return status, output.read_text(encoding="utf-8", errors="replace")


def _kill_process_group(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        # The processes may have ended meanwhile.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
