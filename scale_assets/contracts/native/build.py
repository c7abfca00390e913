"""Builds the C reader beside its source: `python scale_assets/contracts/native/build.py`.

Installing the project does it, by hatch_build.py; only the standard library is imported here. The
library's name carries a digest of its source, so an old one is never loaded.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCES = ("lines.c", "json_scan.h")
FLAGS = ("-std=c11", "-O2", "-shared", "-fPIC")


def library_path() -> Path:
    """Where the library of the present source is, once it is built."""
    text = b"".join((FOLDER / name).read_bytes() for name in SOURCES)
    return FOLDER / f"lines-{hashlib.sha256(text).hexdigest()[:16]}.so"


def build() -> Path | None:
    """Compile what is not compiled yet; None where there is no C compiler.

    Raises:
        subprocess.CalledProcessError: The compiler refuses the source.
    """
    library = library_path()
    compiler = shutil.which("cc")
    if library.exists() or compiler is None:
        return library if library.exists() else None
    unfinished = library.with_suffix(f".{os.getpid()}")
    command = [compiler, *FLAGS, str(FOLDER / SOURCES[0]), "-o", str(unfinished)]
    subprocess.run(command, check=True)
    unfinished.replace(library)
    for outdated in FOLDER.glob("lines-*.so"):
        if outdated != library:
            outdated.unlink()
    return library


if __name__ == "__main__":
    sys.stdout.write(f"{build() or 'no C compiler: lines are read without it, more slowly'}\n")
