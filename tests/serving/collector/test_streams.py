"""A declaration that does not fit is refused when the collector starts, by name."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from scale_assets.contracts import ContractError, Pseudonyms
from serving.collector.config import Config
from serving.collector.errors import CollectorError
from serving.collector.streams import load_streams
from tests.serving.collector.conftest import PII_KEY, click

PSEUDONYMS = Pseudonyms(key=PII_KEY, key_id="1")


def changed(config: Config, **values: Any) -> Path:
    path = Path(config.streams)
    declaration = yaml.safe_load(path.read_text())
    declaration["streams"][0] |= values
    path.write_text(yaml.safe_dump(declaration))
    return path


def columns(config: Config, **values: Any) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(Path(config.streams).read_text())["streams"][0][
        "columns"
    ]
    return {name: source for name, source in (found | values).items() if source is not None}


@pytest.mark.parametrize(
    ("message", "taken"),
    [
        pytest.param(click(), "clicks", id="a track message by its event"),
        pytest.param(click(event="Other"), None, id="another event"),
        pytest.param(click(event=["Clicked"]), None, id="an event that is no name"),
        pytest.param({"type": "page", "event": "Other"}, "clicks", id="a page has no event"),
        pytest.param({"type": "identify"}, "people", id="the first stream that takes it"),
        pytest.param({"type": "alias"}, None, id="a type that none takes"),
    ],
)
def test_which_stream_takes_a_message(
    config: Config, message: dict[str, Any], taken: str | None
) -> None:
    streams = load_streams(Path(config.streams), PSEUDONYMS)

    assert next((each.name for each in streams if each.takes(message)), None) == taken


def test_without_types_and_events_everything_is_taken(config: Config) -> None:
    path = changed(config, types=None, events=None)

    assert load_streams(path, PSEUDONYMS)[0].takes({"type": "group"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colour": "red"}, "colour"),
        ({"types": ["tracks"]}, "tracks"),
        ({"name": "../up"}, "name"),
        ({"name": "people"}, "same name"),
        ({"columns": {"event_id": "messageId"}}, r"event_time.*are required"),
        ({"partition_by": "nothing"}, "partition_by 'nothing'"),
        ({"contract": "missing.yaml"}, "missing.yaml"),
    ],
    ids=str,
)
def test_a_declaration_that_does_not_fit_is_named(
    config: Config, change: dict[str, Any], says: str
) -> None:
    with pytest.raises((CollectorError, ContractError), match=says):
        load_streams(changed(config, **change), PSEUDONYMS)


@pytest.mark.parametrize(
    "source",
    ["propertys.query", "properties", "properties.", "collector.ip", "event.name", "a..b", ""],
)
def test_a_path_that_no_message_has_is_named(config: Config, source: str) -> None:
    path = changed(config, columns=columns(config, path=source))

    with pytest.raises(CollectorError, match="column path"):
        load_streams(path, PSEUDONYMS)


def test_a_column_that_the_contract_lacks_is_named(config: Config) -> None:
    path = changed(config, columns=columns(config, colour="properties.colour"))

    with pytest.raises(CollectorError, match="colour"):
        load_streams(path, PSEUDONYMS)


def test_personal_data_needs_a_key(config: Config) -> None:
    with pytest.raises(CollectorError, match=r"\['user'\].*SCALE_COLLECT_PII_KEY"):
        load_streams(Path(config.streams), None)


def test_a_contract_must_describe_pseudonyms(config: Config) -> None:
    contract = Path(config.streams).with_name("people.odcs.yaml")
    contract.write_text(
        contract.read_text().replace(
            'tags: ["pii:email"]', 'tags: ["pii:email"], logicalTypeOptions: {maxLength: 20}'
        )
    )

    with pytest.raises(ContractError, match="mail is tagged pii:email"):
        load_streams(Path(config.streams), PSEUDONYMS)


def test_a_missing_file_says_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(CollectorError, match="SCALE_COLLECT_STREAMS"):
        load_streams(tmp_path / "none.yaml", PSEUDONYMS)
