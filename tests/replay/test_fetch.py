"""`scale fetch oulad` against a server on this host: only a checked archive gets its name."""

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scale_assets.replay.fetch import MIRRORS, OFFICIAL_ROWS, FetchError, Mirror, fetch_oulad

TABLES = {name: f'"a"\r\n"{name}"\r\n"2"\r\n' for name in OFFICIAL_ROWS}
TWO_ROWS = dict.fromkeys(OFFICIAL_ROWS, 2)


def zipped(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return buffer.getvalue()


GOOD = zipped({f"inner/{name}.csv": text for name, text in TABLES.items()} | {"README": "x"})
ANSWERS = {
    "/good.zip": GOOD,
    "/lacking.zip": zipped({f"{name}.csv": TABLES[name] for name in TABLES if name != "vle"}),
    "/short.zip": zipped({f"{name}.csv": TABLES[name] for name in TABLES} | {"vle.csv": "a\n1"}),
    "/page.html": b"<html>moved</html>",
}


ASKED: list[str] = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ASKED.append(self.path)
        body = ANSWERS.get(self.path)
        if self.path == "/cut.zip":  # announces more than it sends
            self.send_response(200)
            self.send_header("Content-Length", str(len(GOOD)))
            self.end_headers()
            self.wfile.write(GOOD[:100])
        elif body is None:
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def mirror(server: str, path: str, *, sha256: str | None = None) -> Mirror:
    digest = hashlib.sha256(ANSWERS.get(path, GOOD)).hexdigest()
    return Mirror(url=server + path, sha256=sha256 or digest)


def test_the_tables_are_unpacked_and_the_source_recorded(server: str, tmp_path: Path) -> None:
    progress: list[tuple[int, int | None]] = []
    folder = fetch_oulad(
        tmp_path / "cache",
        mirrors=[mirror(server, "/good.zip")],
        expected_rows=TWO_ROWS,
        progress=lambda *call: progress.append(call),
    )

    assert folder == tmp_path / "cache/oulad"
    tables = {path.stem: path.read_bytes().decode() for path in folder.glob("*.csv")}
    assert tables == TABLES
    record = json.loads((folder / "fetched.json").read_text())
    assert record["sha256"] == hashlib.sha256(GOOD).hexdigest()
    assert progress[-1] == (len(GOOD), len(GOOD))
    left = {path.name for path in (tmp_path / "cache").iterdir()}
    assert left == {"oulad", ".replay.lock"}


def test_a_second_call_asks_nobody(server: str, tmp_path: Path) -> None:
    mirrors = [mirror(server, "/good.zip")]
    fetch_oulad(tmp_path, mirrors=mirrors, expected_rows=TWO_ROWS)
    asked = len(ASKED)

    fetch_oulad(tmp_path, mirrors=mirrors, expected_rows=TWO_ROWS)

    assert len(ASKED) == asked


def test_the_next_mirror_is_tried(server: str, tmp_path: Path) -> None:
    mirrors = [
        mirror(server, "/gone.zip"),
        mirror(server, "/cut.zip"),
        mirror(server, "/page.html", sha256="0" * 64),
        mirror(server, "/good.zip"),
    ]

    assert fetch_oulad(tmp_path, mirrors=mirrors, expected_rows=TWO_ROWS).is_dir()


@pytest.mark.parametrize(
    ("path", "sha256", "message"),
    [
        pytest.param("/gone.zip", None, "404", id="not there"),
        pytest.param("/good.zip", "0" * 64, "SHA-256 is .* expected 0000", id="other bytes"),
        pytest.param("/cut.zip", None, "SHA-256|IncompleteRead", id="cut off"),
        pytest.param("/page.html", None, "not a zip file", id="no archive"),
        pytest.param("/lacking.zip", None, r"lacks vle\.csv", id="a table is missing"),
        pytest.param("/short.zip", None, r"vle\.csv has 1 rows, expected 2", id="rows missing"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_wrong_archive_leaves_nothing(
    server: str, tmp_path: Path, path: str, sha256: str | None, message: str
) -> None:
    with pytest.raises(FetchError, match=message):
        fetch_oulad(tmp_path, mirrors=[mirror(server, path, sha256=sha256)], expected_rows=TWO_ROWS)
    assert [left.name for left in tmp_path.iterdir()] == [".replay.lock"]


def test_an_unreachable_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"127\.0\.0\.1:1/.*refused"):
        fetch_oulad(tmp_path, mirrors=[Mirror(url="http://127.0.0.1:1/a.zip", sha256="")])


def test_a_folder_of_ones_own_is_kept(tmp_path: Path) -> None:
    (tmp_path / "oulad").mkdir()

    with pytest.raises(FetchError, match="was not made by"):
        fetch_oulad(tmp_path)


def test_official_mirrors_are_pinned() -> None:
    for official in MIRRORS:
        assert official.url.startswith("https://")
        assert len(bytes.fromhex(official.sha256)) == 32
    assert OFFICIAL_ROWS["studentVle"] == 10_655_280
