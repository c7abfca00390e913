"""docs/guides/collector.md names every setting and every path of the collector, and no other."""

import re
from pathlib import Path

import yaml

from scale_assets.settings import Settings
from serving.collector.segment import BATCH, TYPES
from serving.collector.streams import FACTS, StreamDeclaration

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "collector.md").read_text()


def test_its_settings_are_those_there_are() -> None:
    named = set(re.findall(r"SCALE_(COLLECT_\w+)", GUIDE))

    assert named == {name.upper() for name in Settings.model_fields if name.startswith("collect_")}


def test_its_defaults_are_true() -> None:
    fields = Settings.model_fields

    assert f"| {fields['collect_events_per_second'].default} | per write key" in GUIDE
    assert f"| `{fields['collect_on_breach'].default}` |" in GUIDE
    seal = [fields[f"collect_seal_{unit}"].default for unit in ("seconds", "mib")]
    assert f"| {seal[0]}, {seal[1]} |" in GUIDE


def test_its_paths_and_facts_are_those_there_are() -> None:
    assert all(f"`/v1/{kind}`" in GUIDE for kind in (*TYPES, BATCH))
    assert set(re.findall(r"\| `collector\.(\w+)` \|", GUIDE)) == set(FACTS)


def test_its_declaration_is_one() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    (declared,) = yaml.safe_load(text)["streams"]

    assert declared.keys() == set(StreamDeclaration.__struct_fields__)
