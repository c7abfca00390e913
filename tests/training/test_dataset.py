"""A dataset folder becomes arrays without changing a value."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.training.tabular_worlds import write_dataset
from training.dataset import open_dataset, read_tabular, score_column
from training.errors import TrainingError


def test_null_becomes_nan_or_the_empty_string(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "d", num_students=20))

    split = read_tabular(dataset, "train")

    assert split.numeric_BF.dtype == np.float32
    assert np.isnan(split.numeric_BF[:, dataset.numeric.index("never_known")]).all()
    assert set(split.categorical_BC[:, 1]) == {"North", "South", ""}
    last_day = split.table["presentation_day"].to_numpy() == 49
    assert np.isnan(split.labels_BT[last_day, 1]).all()
    assert not np.isnan(split.labels_BT[:, 0]).any()


def test_the_day_of_the_protocol_is_both_a_feature_and_identity(tmp_path: Path) -> None:
    dataset = open_dataset(write_dataset(tmp_path / "d", num_students=20))

    split = read_tabular(dataset, "test")

    days = split.table["presentation_day"].to_pylist()
    assert split.numeric_BF[:, 0].tolist() == days
    assert "clicks_7d" not in split.table.column_names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"kind": "sequence"}, "sequence", id="another kind"),
        pytest.param({"numeric": ["clicks_9d"]}, "clicks_9d", id="a missing column"),
        pytest.param({"splits": {"all": []}}, "no split 'train'", id="a missing split"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = write_dataset(tmp_path / "d", num_students=5) / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(TrainingError, match=message):
        read_tabular(open_dataset(path.parent), "train")


def test_a_folder_without_a_dataset_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="materialize the dataset"):
        open_dataset(tmp_path)


def test_a_score_is_named_after_its_horizon() -> None:
    assert score_column("cancelled_within_28d") == "score_28d"
