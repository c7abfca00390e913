"""Rankings without learning, as graphs that take and give what the network's graph does.

Nothing is trained: each function writes its graph, which then ranks the test registrations. The
graphs are written down as ONNX text, because exporting four of them from torch takes half a minute.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import onnx

from training.dataset import open_dataset
from training.export import MAX_IR_VERSION, OPSET, save, write_signature
from training.next_site_data import cut_day, load_presentations
from training.next_site_inputs import LOWEST_SCORE, SIGNATURE
from training.next_site_predictions import write_rankings

Report = Callable[[dict[str, float]], None]
Phase = Literal["tune", "test"]

# uses_BLC is 1 where history entry l, before `day`, is candidate c.
HISTORY = f"""
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    axis_1 = Constant <value_ints = [1]> ()
    axis_2 = Constant <value_ints = [2]> ()
    lowest = Constant <value_float = {LOWEST_SCORE:.1f}> ()
    absent = Equal (candidate_site_ids, zero)
    history_BL1 = Unsqueeze (history_site_ids, axis_2)
    candidates_B1C = Unsqueeze (candidate_site_ids, axis_1)
    same_BLC = Equal (history_BL1, candidates_B1C)
    day_B1 = Unsqueeze (day, axis_1)
    age_BL = Sub (day_B1, history_days)
    before = Greater (age_BL, zero)
    padding = Equal (history_site_ids, zero)
    known = Not (padding)
    counts_BL = And (before, known)
    counts_BL1 = Unsqueeze (counts_BL, axis_2)
    used_BLC = And (same_BLC, counts_BL1)
    uses_BLC = Cast <to = 1> (used_BLC)
    times_BC = ReduceSum <keepdims = 0> (uses_BLC, axis_1)
    never = Constant <value_float = 0.0> ()
    opened = Greater (times_BC, never)
"""
MASKS = """
    excluded = Or (absent, opened)
    scores = Where (absent, lowest, score_BC)
    discovery_scores = Where (excluded, lowest, popular_BC)
"""


def popular(column: str) -> onnx.ModelProto:
    """By the number of students, in a window or over all history."""
    return ranking(f"""
    popular_BC = Identity (candidate_{column})
    score_BC = Identity (popular_BC)
    """)


def own_days(*, half_life_days: float | None, then: str, tie_weight: float) -> onnx.ModelProto:
    """By own days of use; `tie_weight` times a share of popularity below 1 orders equal ones."""
    decay = 0.0 if half_life_days is None else -1.0 / half_life_days
    return ranking(f"""
    popular_BC = Identity (candidate_{then})
    past_BL = Max (age_BL, one)
    later_BL = Sub (past_BL, one)
    days_BL = Cast <to = 1> (later_BL)
    decay = Constant <value_float = {decay:.12f}> ()
    exponent_BL = Mul (days_BL, decay)
    two = Constant <value_float = 2.0> ()
    weight_BL = Pow (two, exponent_BL)
    weight_B1L = Unsqueeze (weight_BL, axis_1)
    own_B1C = MatMul (weight_B1L, uses_BLC)
    own_BC = Squeeze (own_B1C, axis_1)
    most_B1 = ReduceMax <keepdims = 1> (popular_BC, axis_1)
    some = Constant <value_float = 1.0> ()
    more_B1 = Add (most_B1, some)
    share_BC = Div (popular_BC, more_B1)
    tie_weight = Constant <value_float = {tie_weight:.12f}> ()
    tie_BC = Mul (share_BC, tie_weight)
    score_BC = Add (own_BC, tie_BC)
    """)


def ranking(body: str) -> onnx.ModelProto:
    """A graph with the shared signature whose body sets score_BC and popular_BC."""
    inputs = ", ".join(f"{kind}[{shape}] {name}" for name, (kind, shape) in SIGNATURE.items())
    outputs = "float[batch,sites] scores, float[batch,sites] discovery_scores"
    return onnx.parser.parse_model(
        f'<ir_version: {MAX_IR_VERSION}, opset_import: ["" : {OPSET}]>\n'
        f"ranking ({inputs}) => ({outputs}) {{ {HISTORY} {body} {MASKS} }}"
    )


def popular_all(*, dataset: Path, output: Path, report: Report, phase: Phase = "test") -> None:
    """Most students, all history."""
    rank_with(popular("students_total"), dataset, output, report, phase)


def popular_7d(*, dataset: Path, output: Path, report: Report, phase: Phase = "test") -> None:
    """Most students in the last 7 days."""
    rank_with(popular("students_7d"), dataset, output, report, phase)


def own_history(*, dataset: Path, output: Path, report: Report, phase: Phase = "test") -> None:
    """Own days of use, then popular."""
    model = own_days(half_life_days=None, then="students_total", tie_weight=0.5)
    rank_with(model, dataset, output, report, phase)


def own_decayed(*, dataset: Path, output: Path, report: Report, phase: Phase = "test") -> None:
    """Own days of use with a half-life of 7 days, then popular in the last 7 days."""
    # A use 140 days ago still weighs more than any popularity.
    model = own_days(half_life_days=7.0, then="students_7d", tie_weight=1e-6)
    rank_with(model, dataset, output, report, phase)


def rank_with(
    model: onnx.ModelProto, dataset: Path, output: Path, report: Report, phase: Phase
) -> None:
    presentations = load_presentations(dataset)
    day = cut_day(open_dataset(dataset), phase)
    path = output / "model.onnx"
    save(model, path)
    write_signature(path)
    ranked = write_rankings(path, presentations, day=day, path=output / "predictions.parquet")
    report({"num_ranked": ranked})
