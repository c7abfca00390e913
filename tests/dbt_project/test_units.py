"""The unit tests beside the models: tiny rows in, tiny rows out."""

import json
from pathlib import Path

# Marts with logic of their own; the others select and join.
WITH_LOGIC = {
    "daily_activity",
    "next_site_labels",
    "registration_activity",
    "registration_assessments",
    "registration_profile",
    "site_popularity",
    "withdrawal_labels",
}


def test_every_mart_with_logic_passed_its_unit_test(built: Path) -> None:
    results = json.loads((built / "run_results.json").read_bytes())["results"]
    units = [each for each in results if each["unique_id"].startswith("unit_test.")]

    assert {each["unique_id"].split(".")[2] for each in units} == WITH_LOGIC
    assert {each["status"] for each in units} == {"pass"}
