"""A candidate that trains in no time, for tests of the machinery around it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
from onnx import TensorProto, helper
from pydantic import Field

from training.dataset import open_dataset, read_tabular, write_predictions
from training.export import save, write_signature


def train(
    *,
    dataset: Path,
    output: Path,
    report: Callable[[dict[str, float]], None],
    feature: int = 1,
    sign: Annotated[float, Field(ge=-1, le=1)] = -1.0,
    epochs: Annotated[int, Field(gt=0)] = 2,
) -> None:
    """Score both labels by one numeric feature, times `sign`."""
    source = open_dataset(dataset)
    for epoch in range(epochs):
        report({"epoch": epoch, "loss": 1.0 / (1 + epoch)})
    split = read_tabular(source, "test")
    column_B = np.nan_to_num(split.numeric_BF[:, feature])
    write_predictions(
        output / "predictions.parquet", split, sign * np.stack([column_B] * 2, axis=1), source
    )
    save(graph(len(source.numeric), len(source.categorical)), output / "model.onnx")
    write_signature(output / "model.onnx")


def graph(num_numeric: int, num_categorical: int) -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["pair"], value_ints=[0, 1])
    gather = helper.make_node("Gather", ["numeric", "pair"], ["probabilities"], axis=1)
    strings = ["batch", num_categorical]
    return helper.make_model(
        helper.make_graph(
            [constant, gather],
            "toy",
            [
                helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", num_numeric]),
                helper.make_tensor_value_info("categorical", TensorProto.STRING, strings),
            ],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
    )


def fail(*, dataset: Path, output: Path, report: Callable[[dict[str, float]], None]) -> None:
    report({"epoch": 0, "loss": 1.0})
    raise RuntimeError(f"diverged on {json.dumps(dataset.name)}")
