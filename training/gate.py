"""Decides which candidate is released: the best by one metric among those that may be."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

from training.errors import TrainingError


class Scores(Protocol):
    """What the gate needs of an evaluation."""

    @property
    def candidates(self) -> Any: ...

    def value(self, candidate: str, metric: str) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The declared rule: rank by `metric`, refuse what is outside the bounds."""

    metric: str
    releasable: list[str]  # candidates with an exported graph
    minimums: dict[str, float] = field(default_factory=dict)
    maximums: dict[str, float] = field(default_factory=dict)  # above: the future leaked in
    network: str | None = None  # the candidate whose defeat must be said plainly

    @classmethod
    def from_json(cls, text: str) -> "Gate":
        given = json.loads(text)
        unknown = sorted(set(given) - {each.name for each in fields(cls)})
        if unknown:
            raise TrainingError(f"gate does not know {unknown}; it is {text}")
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The outcome, in numbers and in one sentence."""

    winner: str | None  # None: nothing may be released
    metric: str
    value: float | None
    best_of_all: str  # releasable or not
    meets_minimums: bool
    network_won: bool | None  # None: the gate names no network
    too_low: list[str]  # "boosting: auc 0.71 is below 0.76"
    too_high: list[str]  # of any candidate, "boosting: auc 0.97 is above 0.9"
    sentence: str

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def decide(evaluation: Scores, gate: Gate) -> Decision:
    """The best releasable candidate within the bounds; equal values go to the first by name.

    One candidate above a maximum stops every release: what leaked into one can be in all.

    Raises:
        TrainingError: The gate names a metric or a candidate that the evaluation does not have.
    """
    check_names(evaluation, gate)
    ranked = sorted(
        evaluation.candidates, key=lambda name: (-evaluation.value(name, gate.metric), name)
    )
    too_low = {name: shortfalls(evaluation, gate, name) for name in gate.releasable}
    too_high = [text for name in ranked for text in excesses(evaluation, gate, name)]
    all_too_low = [text for texts in too_low.values() for text in texts]
    fit = [name for name in ranked if name in gate.releasable and not too_low[name]]
    winner = fit[0] if fit and not too_high else None
    return Decision(
        winner=winner,
        metric=gate.metric,
        value=evaluation.value(winner, gate.metric) if winner else None,
        best_of_all=ranked[0],
        meets_minimums=bool(fit),
        network_won=None if gate.network is None else winner == gate.network,
        too_low=all_too_low,
        too_high=too_high,
        sentence=say(
            evaluation, gate, winner, best_of_all=ranked[0], problems=too_high or all_too_low
        ),
    )


def check_names(evaluation: Scores, gate: Gate) -> None:
    named = [*gate.releasable, *([gate.network] if gate.network else [])]
    absent = sorted(set(named) - set(evaluation.candidates))
    if absent:
        raise TrainingError(
            f"gate names the candidates {absent}; there are {sorted(evaluation.candidates)}"
        )
    for candidate, scores in evaluation.candidates.items():
        unknown = sorted({gate.metric, *gate.minimums, *gate.maximums} - set(scores.metrics))
        if unknown:
            raise TrainingError(
                f"gate names the metrics {unknown}, which candidate {candidate!r} does not have; "
                f"it has {sorted(scores.metrics)}"
            )


def shortfalls(evaluation: Scores, gate: Gate, candidate: str) -> list[str]:
    return [
        f"{candidate}: {metric} {evaluation.value(candidate, metric):.4f} is below {bound}"
        for metric, bound in gate.minimums.items()
        if not evaluation.value(candidate, metric) >= bound
    ]


def excesses(evaluation: Scores, gate: Gate, candidate: str) -> list[str]:
    return [
        f"{candidate}: {metric} {evaluation.value(candidate, metric):.4f} is above {bound}"
        for metric, bound in gate.maximums.items()
        if evaluation.value(candidate, metric) > bound
    ]


def say(
    evaluation: Scores, gate: Gate, winner: str | None, *, best_of_all: str, problems: list[str]
) -> str:
    def scored(name: str) -> str:
        return f"{name} ({gate.metric} {evaluation.value(name, gate.metric):.4f})"

    if winner is None:
        return f"Nothing is released: {'; '.join(problems)}."
    parts = [f"{scored(winner)} is released."]
    if gate.network and winner != gate.network:
        parts.append(f"The network lost: {scored(gate.network)}.")
    if best_of_all not in gate.releasable:
        parts.append(f"{scored(best_of_all)} scored best but may not be released.")
    return " ".join(parts)
