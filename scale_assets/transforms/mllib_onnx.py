"""MLlib models as ONNX graphs, encoding included, equal to Spark's own probabilities.

Shape suffixes: B = batch, N = numeric columns, C = categorical columns, F = encoded features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from scale_assets.transforms.encoding import Encoding

OPSET = 17
ML_OPSET = 3


@dataclass(frozen=True)
class Graph:
    """Nodes and constants in the making."""

    nodes: list[onnx.NodeProto]
    constants: list[onnx.TensorProto]

    def constant(self, name: str, values: Any, dtype: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def ml_node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        return self.node(kind, inputs, output, domain="ai.onnx.ml", **attributes)


def save_graph(
    graph: Graph, *, encoding: Encoding, probabilities: Sequence[str], path: Path
) -> None:
    """Join one (B, 1) float32 probability per label and write the model."""
    graph.node("Concat", probabilities, "probabilities", axis=1)
    numeric = _declared("numeric", TensorProto.FLOAT, len(encoding.numeric))
    categorical = _declared("categorical", TensorProto.STRING, len(encoding.categorical))
    inputs = [numeric, categorical] if encoding.categorical else [numeric]
    outputs = [_declared("probabilities", TensorProto.FLOAT, len(probabilities))]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "mllib", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _declared(name: str, kind: int, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["batch", width])


def add_encoder(graph: Graph, encoding: Encoding) -> str:
    """The encoded features (B, F) as float32."""
    graph.node("IsNaN", ["numeric"], "missing_BN")
    means = graph.constant("means", [encoding.means], np.float32)
    parts = [graph.node("Where", ["missing_BN", means, "numeric"], "filled_BN")]
    if encoding.indicated:
        graph.node("Cast", ["missing_BN"], "missing_as_float_BN", to=TensorProto.FLOAT)
        chosen = graph.constant("indicated", encoding.indicated, np.int64)
        parts.append(graph.node("Gather", ["missing_as_float_BN", chosen], "indicators", axis=1))
    for index, categories in enumerate(encoding.categories):
        if not categories:
            continue
        position = graph.constant(f"position_{index}", index, np.int64)
        column = graph.node("Gather", ["categorical", position], f"texts_{index}", axis=1)
        parts.append(
            graph.ml_node(
                "OneHotEncoder", [column], f"shown_{index}", cats_strings=categories, zeros=1
            )
        )
    return graph.node("Concat", parts, "features_BF", axis=1)


def add_logistic(
    graph: Graph, features: str, *, weights: np.ndarray, intercept: float, label: str
) -> str:
    """sigmoid(features @ weights + intercept), in double as Spark computes it."""
    return add_sigmoid(
        graph, _linear(graph, features, weights=weights, intercept=intercept, label=label), label
    )


def _linear(
    graph: Graph, features: str, *, weights: np.ndarray, intercept: float, label: str
) -> str:
    column = graph.constant(f"weights_{label}", weights.reshape(-1, 1), np.float64)
    offset = graph.constant(f"intercept_{label}", [intercept], np.float64)
    product = graph.node("MatMul", [features, column], f"product_{label}")
    return graph.node("Add", [product, offset], f"logit_{label}")


def add_sigmoid(graph: Graph, logit: str, label: str) -> str:
    probability = graph.node("Sigmoid", [logit], f"probability_double_{label}")
    return graph.node("Cast", [probability], f"probability_{label}", to=TensorProto.FLOAT)


def add_logs(graph: Graph, features: str) -> str:
    """sign(x) * log(1 + abs(x)) of every feature, in double."""
    double = graph.node("Cast", [features], "features_double_BF", to=TensorProto.DOUBLE)
    one = graph.constant("one", 1.0, np.float64)
    size = graph.node("Abs", [double], "size_BF")
    logs = graph.node("Log", [graph.node("Add", [size, one], "size_and_one_BF")], "logs_BF")
    return graph.node("Mul", [graph.node("Sign", [double], "sign_BF"), logs], "signed_logs_BF")


def add_trees(graph: Graph, features: str, *, trees: "Trees", label: str) -> str:
    """The sum over all trees of the value of the leaf that a row ends in, shape (B, 1)."""
    return graph.ml_node(
        "TreeEnsembleRegressor",
        [features],
        f"total_{label}",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        **trees.attributes,
    )


@dataclass(frozen=True)
class Trees:
    """Attributes of one TreeEnsembleRegressor."""

    attributes: Mapping[str, list[Any]]


def read_trees(saved: Path, *, weights: Sequence[float]) -> Trees:
    """Nodes of a saved MLlib ensemble; a leaf holds its prediction times its tree's weight."""
    nodes = pq.read_table(saved / "data").to_pylist()
    made: dict[str, list[Any]] = {name: [] for name in (*_NODE_FIELDS, *_LEAF_FIELDS)}
    for row in sorted(nodes, key=lambda row: (row["treeID"], row["nodeData"]["id"])):
        tree, node = row["treeID"], row["nodeData"]
        _append_node(made, tree=tree, node=node, share=weights[tree] * node["prediction"])
    return Trees(made)


_NODE_FIELDS = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_modes",
    "nodes_values",
    "nodes_truenodeids",
    "nodes_falsenodeids",
)
_LEAF_FIELDS = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


def _append_node(
    made: dict[str, list[Any]], *, tree: int, node: dict[str, Any], share: float
) -> None:
    leaf = node["leftChild"] < 0
    split = node["split"]
    values = (
        tree,
        node["id"],
        0 if leaf else split["featureIndex"],
        "LEAF" if leaf else "BRANCH_LEQ",
        0.0 if leaf else _at_most(split["leftCategoriesOrThreshold"][0]),
        0 if leaf else node["leftChild"],
        0 if leaf else node["rightChild"],
    )
    for name, value in zip(_NODE_FIELDS, values, strict=True):
        made[name].append(value)
    if leaf:
        for name, value in zip(_LEAF_FIELDS, (tree, node["id"], 0, share), strict=True):
            made[name].append(value)


def _at_most(threshold: float) -> float:
    """The largest float32 not above a threshold: float32 values compare as they do in Spark."""
    nearest = np.float32(threshold)
    if float(nearest) > threshold:
        nearest = np.nextafter(nearest, np.float32(-np.inf))
    return float(nearest)


def signature(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Inputs and outputs of a graph; -1 where an axis varies."""
    graph = onnx.load(path).graph
    return {
        "inputs": [_described(value) for value in graph.input],
        "outputs": [_described(value) for value in graph.output],
    }


def _described(value: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = value.type.tensor_type
    names = {TensorProto.FLOAT: "float32", TensorProto.STRING: "string"}
    sizes = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in tensor.shape.dim]
    return {"name": value.name, "type": names[tensor.elem_type], "shape": sizes}
