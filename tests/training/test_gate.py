"""The gate releases the best that may be released, and says so when the network lost."""

from dataclasses import dataclass, field

import pytest

from training.errors import TrainingError
from training.evaluate import CandidateScores, Metric
from training.gate import Decision, Gate, decide


@dataclass
class Scored:
    """AUC by candidate."""

    auc: dict[str, float]
    candidates: dict[str, CandidateScores] = field(init=False)

    def __post_init__(self) -> None:
        self.candidates = {
            name: CandidateScores(metrics={"auc": Metric(value=value)})
            for name, value in self.auc.items()
        }

    def value(self, candidate: str, metric: str) -> float:
        return self.candidates[candidate].metrics[metric].value


def decided(
    auc: dict[str, float],
    *,
    minimums: dict[str, float] | None = None,
    maximums: dict[str, float] | None = None,
) -> Decision:
    gate = Gate(
        metric="auc",
        releasable=["network", "boosting"],
        minimums=minimums or {},
        maximums=maximums or {},
        network="network",
    )
    return decide(Scored(auc), gate)


def test_the_best_is_released() -> None:
    decision = decided({"network": 0.78, "boosting": 0.77})

    assert decision.winner == "network"
    assert decision.network_won
    assert "lost" not in decision.sentence


def test_a_lost_network_is_said_plainly() -> None:
    decision = decided({"network": 0.76, "boosting": 0.77})

    assert decision.winner == "boosting"
    assert decision.network_won is False
    assert "The network lost: network (auc 0.7600)" in decision.sentence


def test_a_candidate_that_cannot_be_exported_is_named_but_not_released() -> None:
    decision = decided({"network": 0.76, "boosting": 0.75, "mllib": 0.80})

    assert decision.winner == "network"
    assert decision.best_of_all == "mllib"
    assert "mllib (auc 0.8000) scored best but may not be released" in decision.sentence


def test_nothing_below_the_minimum_is_released() -> None:
    decision = decided({"network": 0.70, "boosting": 0.71}, minimums={"auc": 0.75})

    assert decision.winner is None
    assert not decision.meets_minimums
    assert "boosting: auc 0.7100 is below 0.75" in decision.sentence


def test_a_value_too_good_to_be_true_stops_every_release() -> None:
    decision = decided({"network": 0.78, "boosting": 0.97}, maximums={"auc": 0.9})

    assert decision.winner is None
    assert decision.meets_minimums
    assert decision.too_high == ["boosting: auc 0.9700 is above 0.9"]


def test_not_a_number_never_meets_a_minimum() -> None:
    decision = decided({"network": float("nan"), "boosting": 0.8}, minimums={"auc": 0.5})

    assert decision.winner == "boosting"


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        pytest.param(Gate(metric="auk", releasable=["network"]), "auk", id="metric"),
        pytest.param(Gate(metric="auc", releasable=["netwrok"]), "netwrok", id="candidate"),
    ],
)
def test_unknown_names_are_refused(gate: Gate, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        decide(Scored({"network": 0.7}), gate)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(TrainingError, match="minimum"):
        Gate.from_json('{"metric": "auc", "releasable": ["a"], "minimum": 1}')
