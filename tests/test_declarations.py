"""A mistake in a declaration is a line that names file, line, field and value; no traceback."""

import sys
from pathlib import Path

import pytest

from scale_assets.declarations import DeclarationRefused
from scale_assets.definitions import defs
from tests.shop import scale, write_shop


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the one declaration of a project that one stands in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return write_shop(tmp_path)


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_the_project_loads_as_it_is(orders: Path) -> None:
    assert defs().resolve_asset_graph()


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        pytest.param(
            *("defs.yaml", "  name: orders", "  nam: orders"),
            ["defs.yaml:2: name: Field required", "defs.yaml:3: nam: Extra inputs", "event_time"],
            id="unknown and missing key",
        ),
        pytest.param(
            *("defs.yaml", "type: files", "type: fils"),
            ["defs.yaml:5: transport: ", "'fils'", "'kafka'"],
            id="unknown transport",
        ),
        pytest.param(
            *("defs.yaml", "path: orders", "path: orders, paht: 1"),
            ["defs.yaml:5: transport.files.paht: ", "mend its name"],
            id="unknown key inside",
        ),
        pytest.param(
            *("defs.yaml", "_days: 7", "_days: many"),
            ["defs.yaml:8: 'many' is given for a number"],
            id="not a number",
        ),
        pytest.param(
            *("defs.yaml", "[order_id]", "[order_id"),
            ["defs.yaml:7: not YAML: expected ',' or ']'"],
            id="declaration is not YAML",
        ),
        pytest.param(
            *("defs.yaml", "EventStream", "EventStreem"),
            ["defs.yaml:1: type: there is no 'scale_assets.components.EventStreem'"],
            id="no such type",
        ),
        pytest.param(
            *("defs.yaml", "scale_assets.components.", "scale_asets."),
            ["defs.yaml:1: type: there is no 'scale_asets'"],
            id="no such module",
        ),
        pytest.param(
            *("defs.yaml", "contract: orders", "contract: order"),
            ["order.odcs.yaml: the contract cannot be read", "declared in", "defs.yaml"],
            id="no such contract",
        ),
        pytest.param(
            *("orders.odcs.yaml", "primaryKey: true,", "primaryKey: true: 1,"),
            ["orders.odcs.yaml:9: not YAML: ", "declared in"],
            id="contract is not YAML",
        ),
        pytest.param(
            *("orders.odcs.yaml", "logicalType: timestamp", "logicalType: time"),
            ["orders.odcs.yaml:10: at: logicalType 'time' is not supported", "'timestamp'"],
            id="contract has an unknown type",
        ),
        pytest.param(
            *("orders.odcs.yaml", "        required: true", "        requird: true"),
            ["orders.odcs.yaml:12: ", "requird: unknown key"],
            id="contract has an unknown key",
        ),
    ],
)
def test_a_mistake_is_said_with_its_place(
    orders: Path, file: str, old: str, new: str, says: list[str]
) -> None:
    rewrite(orders / file, old, new)

    with pytest.raises(DeclarationRefused) as refused:
        defs()

    for each in says:
        assert each in str(refused.value)


def test_what_is_no_mistake_in_yaml_keeps_its_traceback(orders: Path) -> None:
    (orders.parent / "own.py").write_text("import nothing_of_this_name\n")

    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        defs()


def test_a_command_says_its_answer_and_nothing_of_dagsters_warnings(orders: Path) -> None:
    checked = scale("check", project=orders.parents[2])

    assert (checked.returncode, checked.stderr) == (0, "")
    assert [line.partition(":")[0] for line in checked.stdout.splitlines()] == ["orders"]


def test_a_command_ends_with_the_mistake_alone(orders: Path) -> None:
    rewrite(orders / "defs.yaml", "  key: [order_id]", "  keey: [order_id]\n  key: [order_id]")

    checked = scale("check", project=orders.parents[2])

    assert (checked.returncode, checked.stderr) == (1, "")
    assert checked.stdout.startswith("DeclarationRefused: ")
    assert len(checked.stdout.splitlines()) == 1
