"""Fitted scikit-learn classifiers as one ONNX graph with the signature of every tabular model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.export import ML_OPSET, OPSET, StringInput, encoder_nodes, save

if TYPE_CHECKING:
    import onnx


def export_estimators(
    estimators: Sequence[Any],
    vocabularies: Sequence[Sequence[str]],
    path: Path,
    *,
    num_numeric: int,
    linear: bool,
) -> None:
    """`numeric` (B, F) and `categorical` (B, C) to `probabilities` (B, one column per estimator).

    Each estimator takes one float32 matrix: numbers and category codes; if `linear`, signed
    logarithms, codes and missing indicators. Its second class is the label.
    """
    from onnx import TensorProto, helper

    num_columns = num_numeric * (2 if linear else 1) + len(vocabularies)
    nodes = front_nodes(vocabularies, linear=linear)
    initializers: list[Any] = []
    columns = []
    for place, estimator in enumerate(estimators):
        graph, column = estimator_graph(estimator, num_columns, prefix=f"label_{place}_")
        nodes += graph.node
        initializers += graph.initializer
        columns.append(column)
    nodes.append(helper.make_node("Concat", columns, ["probabilities"], axis=1))
    whole = helper.make_graph(
        nodes,
        "tabular",
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", num_numeric]),
            helper.make_tensor_value_info(
                "categorical", TensorProto.STRING, ["batch", len(vocabularies)]
            ),
        ],
        [
            helper.make_tensor_value_info(
                "probabilities", TensorProto.FLOAT, ["batch", len(estimators)]
            )
        ],
        initializers,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    save(helper.make_model(whole, opset_imports=opsets), path)


def front_nodes(vocabularies: Sequence[Sequence[str]], *, linear: bool) -> "list[onnx.NodeProto]":
    """Raw inputs to the estimators' matrix; sign(x) * log(1 + |x|) keeps NaN as NaN."""
    from onnx import TensorProto, helper

    codes = StringInput(name="categorical", codes="codes", vocabularies=vocabularies)
    nodes = encoder_nodes(codes)
    nodes.append(helper.make_node("Cast", ["codes"], ["codes_float"], to=TensorProto.FLOAT))
    parts = ["numeric", "codes_float"]
    if linear:
        parts = ["logarithms", "codes_float", "missing"]
        nodes += [
            helper.make_node("Constant", [], ["one"], value_floats=[1.0]),
            helper.make_node("Sign", ["numeric"], ["sign"]),
            helper.make_node("Abs", ["numeric"], ["size"]),
            helper.make_node("Add", ["size", "one"], ["size_plus_one"]),
            helper.make_node("Log", ["size_plus_one"], ["log_size"]),
            helper.make_node("Mul", ["sign", "log_size"], ["logarithms"]),
            helper.make_node("IsNaN", ["numeric"], ["is_missing"]),
            helper.make_node("Cast", ["is_missing"], ["missing"], to=TensorProto.FLOAT),
        ]
    nodes.append(helper.make_node("Concat", parts, ["inputs"], axis=1))
    return nodes


def estimator_graph(
    estimator: Any, num_columns: int, *, prefix: str
) -> "tuple[onnx.GraphProto, str]":
    """The estimator's own graph reading `inputs`, and the (B, 1) tensor with its probability."""
    from onnx import compose, helper
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    model = convert_sklearn(
        estimator,
        initial_types=[("inputs", FloatTensorType([None, num_columns]))],
        options={id(estimator): {"zipmap": False}},
        target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
    )
    graph = compose.add_prefix_graph(model.graph, prefix)
    graph.node.insert(0, helper.make_node("Identity", ["inputs"], [f"{prefix}inputs"]))
    both_classes = graph.output[1].name
    place, column = f"{prefix}second", f"{prefix}column"
    graph.node.append(helper.make_node("Constant", [], [place], value_ints=[1]))
    graph.node.append(helper.make_node("Gather", [both_classes, place], [column], axis=1))
    return graph, column
