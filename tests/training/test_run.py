"""The entry point checks what it is given, shares a process, and reports while training."""

import json
from pathlib import Path

import pytest

from tests.training import toy_candidate
from tests.training.tabular_worlds import write_dataset
from training.errors import TrainingError
from training.run import main, validated

TOY = "tests.training.toy_candidate"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("world") / "dataset", num_students=30)


def messages(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_several_candidates_share_a_process_and_report_in_order(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        [
            TOY,
            f"{TOY}:train",
            "--dataset",
            str(dataset),
            "--output",
            str(tmp_path / "one"),
            str(tmp_path / "two"),
            "--hyperparameters",
            "{}",
            '{"epochs": 1}',
        ]
    )

    said = messages(capsys)
    assert [(each["candidate"], each["event"]) for each in said] == [
        *[("one", event) for event in ("loading", "started", "metrics", "metrics", "finished")],
        *[("two", event) for event in ("loading", "started", "metrics", "finished")],
    ]
    assert said[1]["hyperparameters"] == {"feature": 1, "sign": -1.0, "epochs": 2}
    assert said[2]["metrics"] == {"epoch": 0, "loss": 1.0}
    for name in ("predictions.parquet", "model.onnx", "signature.json"):
        assert (tmp_path / "one" / name).exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param(
            {"epoch": 3}, "epoch: Extra inputs.*It takes: feature, sign, epochs", id="name"
        ),
        pytest.param({"epochs": 0}, "epochs: .*greater than 0, got 0", id="bound"),
        pytest.param({"epochs": "many"}, "epochs: .*integer, got 'many'", id="type"),
        pytest.param({"dataset": "x"}, "dataset: Extra inputs", id="not a hyperparameter"),
    ],
)
def test_wrong_hyperparameters_are_named_with_their_value(
    given: dict[str, object], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        validated(toy_candidate.train, given, entry=TOY)


def test_a_failure_is_reported_before_it_is_raised(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="diverged"):
        main([f"{TOY}:fail", "--dataset", str(dataset), "--output", str(tmp_path / "bad")])

    last = messages(capsys)[-1]
    assert last["event"] == "failed"
    assert last["error"] == 'RuntimeError: diverged on "dataset"'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([TOY, TOY, "--output", "a"], "2 entries need as many", id="outputs"),
        pytest.param([f"{TOY}:fit", "--output", "a"], "no function 'fit'", id="function"),
        pytest.param(
            [TOY, "--output", "a", "--hyperparameters", "[1]"], "JSON object", id="no object"
        ),
        pytest.param([TOY, "--output", "a", "--hyperparameters", "{x"], "not JSON", id="no JSON"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(TrainingError, match=message):
        main([*arguments, "--dataset", str(dataset)])


def test_only_rank_0_reports(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RANK", "1")

    main([TOY, "--dataset", str(dataset), "--output", str(tmp_path / "one")])

    assert capsys.readouterr().out == ""
