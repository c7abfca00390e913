"""One evaluation scores all candidates on the same rows, and refuses anything else."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.tabular_worlds import write_dataset
from training.dataset import Dataset, open_dataset, read_tabular, write_predictions
from training.errors import TrainingError
from training.evaluate import evaluate, main


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return open_dataset(write_dataset(tmp_path / "dataset", num_students=120))


def predict(dataset: Dataset, path: Path, *, noise: float, seed: int = 0) -> Path:
    """Scores that know the label, blurred by `noise`."""
    split = read_tabular(dataset, "test")
    generator = np.random.default_rng(seed)
    truth_BT = np.nan_to_num(split.labels_BT, nan=0.0)
    write_predictions(path, split, truth_BT + noise * generator.random(truth_BT.shape), dataset)
    return path


def test_a_better_candidate_scores_better_and_has_an_interval(
    dataset: Dataset, tmp_path: Path
) -> None:
    found = evaluate(
        "tabular",
        {
            "perfect": predict(dataset, tmp_path / "a.parquet", noise=0.5),
            "blurred": predict(dataset, tmp_path / "b.parquet", noise=5.0),
        },
        dataset=dataset,
        num_resamples=50,
    )

    metric = "cancelled_within_28d/auc"
    assert found.value("perfect", metric) == 1.0
    blurred = found.candidates["blurred"].metrics[metric]
    assert 0.5 < blurred.low < blurred.value < blurred.high < 1.0


def test_a_label_counts_on_the_days_of_its_protocol_only(dataset: Dataset, tmp_path: Path) -> None:
    found = evaluate(
        "tabular",
        {"only": predict(dataset, tmp_path / "a.parquet", noise=3.0)},
        dataset=dataset,
        num_resamples=5,
    )

    assert found.targets["cancelled_within_7d"]["num_rows"] == 120 * 4
    # days 28 and 42; 35 is off the protocol, 49 is null as well
    assert found.targets["cancelled_within_28d"]["num_rows"] == 120 * 2


def test_candidates_that_scored_other_rows_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    whole = predict(dataset, tmp_path / "a.parquet", noise=1.0)
    pq.write_table(pq.read_table(whole).slice(1), tmp_path / "b.parquet")

    with pytest.raises(TrainingError, match=r"'whole'.*'short'"):
        evaluate("tabular", {"whole": whole, "short": tmp_path / "b.parquet"}, dataset=dataset)


def test_the_order_of_rows_does_not_matter(dataset: Dataset, tmp_path: Path) -> None:
    path = predict(dataset, tmp_path / "a.parquet", noise=3.0)
    table = pq.read_table(path)
    order = np.random.default_rng(0).permutation(table.num_rows)
    pq.write_table(table.take(pa.array(order)), tmp_path / "b.parquet")

    found = evaluate(
        "tabular", {"a": path, "b": tmp_path / "b.parquet"}, dataset=dataset, num_resamples=5
    )

    assert found.candidates["a"].metrics == found.candidates["b"].metrics


def test_scores_that_are_not_numbers_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = predict(dataset, tmp_path / "a.parquet", noise=1.0)
    table = pq.read_table(path)
    place = table.column_names.index("score_7d")
    broken = table.set_column(place, "score_7d", pa.array([float("nan")] * table.num_rows))
    pq.write_table(broken, path)

    with pytest.raises(TrainingError, match=r"'diverged'.*not finite"):
        evaluate("tabular", {"diverged": path}, dataset=dataset)


def ranking(path: Path, relevant_ranks: dict[str, list[int]], *, num_relevant: int) -> Path:
    rows = [
        {
            "registration_id": registration,
            "list": "all",
            "rank": rank,
            "site_id": rank,
            "relevant": rank in ranks,
            "num_relevant": num_relevant,
        }
        for registration, ranks in relevant_ranks.items()
        for rank in range(1, 51)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_ranking_metrics_equal_a_hand_calculation(tmp_path: Path) -> None:
    path = ranking(tmp_path / "r.parquet", {"first": [1, 4], "none": []}, num_relevant=2)

    metrics = evaluate("sequence", {"popular": path}).candidates["popular"].metrics

    ideal = 1 + 1 / np.log2(3)
    assert metrics["all/ndcg_at_10"].value == pytest.approx((1 + 1 / np.log2(5)) / ideal / 2)
    assert metrics["all/ndcg_at_1"].value == pytest.approx(0.5)
    assert metrics["all/hr_at_10"].value == 0.5
    assert metrics["all/mrr_at_5"].value == 0.5
    assert metrics["all/hr_at_10"].low == 0.0
    assert metrics["all/hr_at_10"].high == 1.0


def test_registrations_without_a_relevant_site_are_left_out(tmp_path: Path) -> None:
    some = pq.read_table(ranking(tmp_path / "a.parquet", {"x": [1]}, num_relevant=1))
    none = pq.read_table(ranking(tmp_path / "b.parquet", {"y": []}, num_relevant=0))
    pq.write_table(pa.concat_tables([some, none]), tmp_path / "c.parquet")

    found = evaluate("sequence", {"own": tmp_path / "c.parquet"})

    assert found.targets == {"all": {"num_rows": 1}}
    assert found.value("own", "all/hr_at_1") == 1.0


def test_the_command_writes_the_evaluation_and_the_decision(
    dataset: Dataset, tmp_path: Path
) -> None:
    path = predict(dataset, tmp_path / "a.parquet", noise=3.0)
    gate = {"metric": "cancelled_within_28d/auc", "releasable": ["network"]}

    main(
        [
            "--dataset",
            str(dataset.folder),
            "--output",
            str(tmp_path / "out"),
            "--predictions",
            f"network={path}",
            "--gate",
            json.dumps(gate),
        ]
    )

    evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    decision = json.loads((tmp_path / "out" / "gate.json").read_text())
    assert decision["winner"] == "network"
    scores = evaluation["candidates"]["network"]
    assert decision["value"] == scores["metrics"]["cancelled_within_28d/auc"]["value"]
    assert set(scores["roc"]) == {"cancelled_within_7d", "cancelled_within_28d"}
