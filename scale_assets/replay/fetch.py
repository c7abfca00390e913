"""Downloads the official OULAD archive into the cache folder; trusts nothing that it cannot check."""

import hashlib
import http.client
import json
import shutil
import urllib.request
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scale_assets.errors import ScaleError
from scale_assets.replay.files import only_writer
from scale_assets.replay.source import FETCHED_FOLDER

RECORD_NAME = "fetched.json"
CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 60

# Rows of each table in the published data set (Kuzilek et al. 2017), header not counted.
OFFICIAL_ROWS = {
    "courses": 22,
    "assessments": 206,
    "vle": 6_364,
    "studentInfo": 32_593,
    "studentRegistration": 32_593,
    "studentAssessment": 173_912,
    "studentVle": 10_655_280,
}


class FetchError(ScaleError):
    """The archive cannot be had, or is not the one that was asked for."""


@dataclass(frozen=True)
class Mirror:
    """Where an archive lies, and the SHA-256 that it must have."""

    url: str
    sha256: str


# The digests are those that several independent projects on GitHub recorded for these addresses.
MIRRORS = (
    Mirror(
        url="https://archive.ics.uci.edu/static/public/349/"
        "open+university+learning+analytics+dataset.zip",
        sha256="f2ed1902616c1fe8d2824d872c0b7d2d72be435bf0124d077044fe4be2c6d3e4",
    ),
    Mirror(
        url="https://schools.stem.open.ac.uk/cdn/files/anonymisedData.zip",
        sha256="90dda45037939953f979072fa70a809ebe07e90ec783c408762af7698a3825ec",
    ),
)

Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all where announced


def fetch_oulad(
    cache_dir: Path,
    *,
    mirrors: Sequence[Mirror] = MIRRORS,
    expected_rows: Mapping[str, int] = OFFICIAL_ROWS,
    progress: Progress | None = None,
) -> Path:
    """Fill ``cache_dir``/oulad with the seven CSV tables; return that folder.

    Mirrors are tried in order. The archive's SHA-256 and every table's number of rows are checked
    before the folder appears under its name. A folder that is there is kept.

    Raises:
        FetchError: No mirror gave the right archive, or it lacks a table or rows.

    """
    folder = cache_dir / FETCHED_FOLDER
    if (folder / RECORD_NAME).is_file():
        return folder
    if folder.exists():
        raise FetchError(f"{folder} was not made by `scale fetch oulad`; remove it and run again")
    with only_writer(cache_dir):
        archive = cache_dir / ".oulad.zip.part"
        mirror = _download_from_any(mirrors, archive, progress)
        part = cache_dir / f".{FETCHED_FOLDER}.part"
        part.mkdir()
        _unpack(archive, part, expected_rows)
        (part / RECORD_NAME).write_text(json.dumps(asdict(mirror), indent=1) + "\n")
        part.rename(folder)
    return folder


def _download_from_any(
    mirrors: Sequence[Mirror], archive: Path, progress: Progress | None
) -> Mirror:
    failures = []
    for mirror in mirrors:
        try:
            digest = _download(mirror.url, archive, progress)
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{mirror.url}: {error}")
            continue
        if digest == mirror.sha256.lower():
            return mirror
        failures.append(f"{mirror.url}: its SHA-256 is {digest}, expected {mirror.sha256}")
    raise FetchError(
        "no mirror gave the OULAD archive:\n  "
        + "\n  ".join(failures)
        + "\ntry again, or download it by hand, unpack it and give --input FOLDER"
    )


def _download(url: str, archive: Path, progress: Progress | None) -> str:
    """Stream the address into a file and return its SHA-256."""
    digest, done = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": "scale-assets"})
    with (
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response,
        archive.open("wb") as file,
    ):
        length = response.headers.get("Content-Length")
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, None if length is None else int(length))
    return digest.hexdigest()


def _unpack(archive: Path, folder: Path, expected_rows: Mapping[str, int]) -> None:
    """Extract the tables by name, wherever in the archive they lie, and count their rows."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = {Path(name).name: name for name in opened.namelist()}
            for table, expected in expected_rows.items():
                if f"{table}.csv" not in members:
                    raise FetchError(f"the archive lacks {table}.csv; it has {sorted(members)}")
                path = folder / f"{table}.csv"
                with opened.open(members[path.name]) as source, path.open("wb") as file:
                    shutil.copyfileobj(source, file, CHUNK_BYTES)
                if (rows := _count_rows(path)) != expected:
                    raise FetchError(f"{table}.csv has {rows} rows, expected {expected}")
    except zipfile.BadZipFile as error:
        raise FetchError(f"the archive is not a zip file: {error}") from error


def _count_rows(path: Path) -> int:
    """Lines after the header; the last one may lack its line end."""
    lines, last = 0, b"\n"
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            lines += chunk.count(b"\n")
            last = chunk[-1:]
    return lines + (last != b"\n") - 1
