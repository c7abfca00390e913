"""A person searches and clicks in a real browser; what they did are rows in the lake."""

import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scale_assets.lake import Lake
from tests.serving.collector.chromium import chromium
from tests.serving.collector.server import EXAMPLE, Server, example_config, running, take_in
from tests.serving.collector.test_sdks import install, pseudonym, rows

BROWSER_SDK = "@segment/analytics-next@1.84.3"
NUM_EVENTS = 4  # a page view, a search, two clicks


@pytest.fixture(scope="module")
def binary() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    return found or pytest.skip("no Chromium is installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The example's page, with Segment's library beside it as its README says."""
    folder = tmp_path_factory.mktemp("browser")
    install(folder / "node", BROWSER_SDK)
    shutil.copytree(EXAMPLE / "site", folder / "site")
    library = folder / "node" / "node_modules" / "@segment" / "analytics-next" / "dist" / "umd"
    shutil.copyfile(library / "index.js", folder / "site" / "analytics.js")
    handler = partial(QuietHandler, directory=str(folder / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files, and says nothing of it."""

    def log_message(self, *_: object) -> None:
        pass


def wait_for_events(server: Server) -> None:
    deadline = time.monotonic() + 30
    counted = f'scale_collector_events_total{{stream="interactions"}} {NUM_EVENTS}.0'
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=5) as answer:
            if counted in answer.read().decode():
                return
        time.sleep(0.1)
    raise AssertionError(f"the collector has not received {NUM_EVENTS} events within 30 s")


@pytest.mark.slow
@pytest.mark.parametrize("delivery", ["standard", "batching"])
def test_a_search_and_clicks_become_rows(
    tmp_path: Path, binary: str, site: str, delivery: str
) -> None:
    config = example_config(tmp_path, cors_origins=[site])
    address = f"{site}/?collector=127.0.0.1:{config.port}&delivery={delivery}"
    with (
        running(config, tmp_path) as server,
        chromium(binary, tmp_path / "profile") as browser,
    ):
        browser.open(address)
        browser.type("#query", "table")
        browser.press_enter()
        browser.click("#products li:nth-child(1) a")
        browser.evaluate("document.querySelector('#query').value = ''")
        browser.evaluate("show('')")
        browser.click("#products li:nth-child(2) a")
        anonymous_id = browser.evaluate("JSON.parse(localStorage.ajs_anonymous_id)")
        browser.leave()
        wait_for_events(server)
    lake = Lake(tmp_path / "lake")
    report = take_in(lake, config)

    assert (report.num_accepted, report.num_quarantined) == (NUM_EVENTS, 0)
    found = sorted(rows(lake), key=lambda row: row["event_time"])
    assert [(row["type"], row["event"]) for row in found] == [
        ("page", None),
        ("track", "Products Searched"),
        ("track", "Product Clicked"),
        ("track", "Product Clicked"),
    ]
    assert found[1]["query"] == "table"
    clicks = [(row["product_id"], row["position"], row["query"]) for row in found[2:]]
    assert clicks == [("table-lamp", 1, "table"), ("floor-lamp", 2, "")]
    assert {row["anonymous_id"] for row in found} == {pseudonym(config, anonymous_id)}
    assert {row["page_path"] for row in found} == {"/"}
    assert {row["library"] for row in found} == {"analytics.js"}
    assert all("Chrome" in row["user_agent"] for row in found)
