"""A run says what it set aside, until somebody has dealt with it."""

import json
from pathlib import Path

from tests.shop import scale, write_shop

GOOD = [{"order_id": f"o-{number}", "at": "2026-01-05T12:00:00Z"} for number in range(3)]
BAD = {"order_id": 7, "at": "2026-01-05T12:00:00Z"}


def deliver(project: Path, name: str, *orders: dict[str, object]) -> None:
    feed = project / ".data" / "feeds" / "orders"
    feed.mkdir(parents=True, exist_ok=True)
    (feed / name).write_text("".join(json.dumps(order) + "\n" for order in orders))


def test_a_run_says_what_is_quarantined_and_held_back_until_it_is_mended(tmp_path: Path) -> None:
    folder = write_shop(tmp_path)
    deliver(tmp_path, "1.jsonl", *GOOD, BAD)

    first = scale("run", project=tmp_path).stdout
    again = scale("run", project=tmp_path).stdout

    for said in (first, again):
        assert "orders: 1 line in raw/orders_quarantine (1 wrong_type order_id)" in said
        assert "orders: held back" in said
        assert "2026-01-05" in said
        assert "docs/guides/quarantine.md" in said

    declared = folder / "defs.yaml"
    declared.write_text(declared.read_text() + "  max_quarantined_fraction: 0.5\n")
    released = scale("run", project=tmp_path).stdout

    assert "orders: 1 line in raw/orders_quarantine" in released
    assert "held back" not in released


def test_a_run_with_nothing_set_aside_says_nothing_of_it(tmp_path: Path) -> None:
    write_shop(tmp_path)
    deliver(tmp_path, "1.jsonl", *GOOD)

    said = scale("run", project=tmp_path)

    assert said.returncode == 0
    assert "quarantine" not in said.stdout
