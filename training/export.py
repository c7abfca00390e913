"""From a trained model to one ONNX graph that takes raw features: encoders and scalers inside.

torch and the exporters are imported where they are used: reading a graph needs none of them.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.errors import TrainingError

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

OPSET = 18
ML_OPSET = 3  # of ai.onnx.ml, where LabelEncoder and the tree ensembles live
MAX_IR_VERSION = 10  # what every supported onnxruntime reads


@dataclass(frozen=True, kw_only=True)
class StringInput:
    """Replaces the int64 graph input `codes` by the string input `name`.

    vocabularies: one list for every position of a tensor of any rank, or one list per column of a
    (batch, columns) tensor. Code 0 is the unknown string, code i + 1 is vocabulary[i].
    """

    name: str
    codes: str
    vocabularies: Sequence[Sequence[str]]
    per_column: bool = True


def export_torch(
    module: "nn.Module",
    example: "dict[str, Tensor]",
    outputs: Sequence[str],
    path: Path,
    dynamic: dict[str, dict[int, str]],
) -> None:
    """Export a module; `example` has two rows or more, `dynamic` names the axes that may vary."""
    import torch

    dims = {axis: torch.export.Dim(axis) for axes in dynamic.values() for axis in axes.values()}
    shapes = {
        name: {index: dims[axis] for index, axis in dynamic.get(name, {}).items()}
        for name in example
    }
    program = torch.onnx.export(
        module.eval(),
        kwargs=example,
        input_names=list(example),
        output_names=list(outputs),
        dynamic_shapes=shapes,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise TrainingError(f"torch.onnx.export returned no program for {type(module).__name__}")
    save(program.model_proto, path)


def save(model: "onnx.ModelProto", path: Path) -> None:
    import onnx

    model.ir_version = min(model.ir_version, MAX_IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def prepend_string_encoders(path: Path, inputs: Iterable[StringInput]) -> None:
    """Rewrite the graph at `path` so that it takes strings where it took their codes."""
    import onnx

    model = onnx.load(str(path))
    for string_input in inputs:
        prepend_encoder(model, string_input)
    declare_opset(model, "ai.onnx.ml", ML_OPSET)
    save(model, path)


def prepend_encoder(model: "onnx.ModelProto", string_input: StringInput) -> None:
    from onnx import TensorProto

    graph = model.graph
    matching = [value for value in graph.input if value.name == string_input.codes]
    if not matching:
        names = [value.name for value in graph.input]
        raise TrainingError(f"the graph has no input {string_input.codes!r}; it has {names}")
    value = matching[0]  # the same shape, but strings under the new name
    value.name = string_input.name
    value.type.tensor_type.elem_type = TensorProto.STRING
    earlier = list(graph.node)
    del graph.node[:]
    graph.node.extend([*encoder_nodes(string_input), *earlier])


def encoder_nodes(string_input: StringInput) -> "list[onnx.NodeProto]":
    """Encode the whole tensor with one vocabulary, or each column with its own."""
    from onnx import helper

    name, codes = string_input.name, string_input.codes
    if not string_input.per_column:
        return [label_encoder(name, codes, string_input.vocabularies[0])]
    nodes, columns = [], []
    for index, vocabulary in enumerate(string_input.vocabularies):
        place, text, code = (f"{name}_{kind}_{index}" for kind in ("place", "text", "code"))
        nodes += [
            helper.make_node("Constant", [], [place], value_ints=[index]),
            helper.make_node("Gather", [name, place], [text], axis=1),
            label_encoder(text, code, vocabulary),
        ]
        columns.append(code)
    return [*nodes, helper.make_node("Concat", columns, [codes], axis=1)]


def label_encoder(source: str, target: str, vocabulary: Sequence[str]) -> "onnx.NodeProto":
    from onnx import helper

    # An empty vocabulary still needs one key; the empty string is unknown anyway.
    pairs = [(text, code) for code, text in enumerate(vocabulary, start=1)] or [("", 0)]
    return helper.make_node(
        "LabelEncoder",
        [source],
        [target],
        domain="ai.onnx.ml",
        keys_strings=[text for text, _ in pairs],
        values_int64s=[code for _, code in pairs],
        default_int64=0,
    )


def declare_opset(model: "onnx.ModelProto", domain: str, version: int) -> None:
    if all(imported.domain != domain for imported in model.opset_import):
        model.opset_import.add(domain=domain, version=version)


def vocabulary_of(values: np.ndarray) -> list[str]:
    """The distinct known strings, sorted; the empty string means unknown and has no entry."""
    return sorted({str(value) for value in values.ravel()} - {""})


def encode(values_BC: np.ndarray, vocabularies: Sequence[Sequence[str]]) -> np.ndarray:
    """What the graph's encoders compute, in numpy: int64 codes, 0 = unknown."""
    codes_BC = np.zeros(values_BC.shape, dtype=np.int64)
    for column, vocabulary in enumerate(vocabularies):
        code = {text: index for index, text in enumerate(vocabulary, start=1)}
        distinct, inverse = np.unique(values_BC[:, column].astype(str), return_inverse=True)
        codes_BC[:, column] = np.array([code.get(text, 0) for text in distinct])[inverse]
    return codes_BC


def write_signature(path: Path) -> dict[str, Any]:
    """Write signature.json beside the graph, read from the graph itself."""
    session = open_session(path)
    signature = {
        "inputs": [describe(value) for value in session.get_inputs()],
        "outputs": [describe(value) for value in session.get_outputs()],
    }
    path.with_name("signature.json").write_text(json.dumps(signature, indent=1))
    return signature


def describe(value: Any) -> dict[str, Any]:
    """Name, element type and shape of one input or output; -1 where an axis varies."""
    element = value.type.removeprefix("tensor(").removesuffix(")").replace("float", "float32")
    shape = [size if isinstance(size, int) else -1 for size in value.shape]
    return {"name": value.name, "type": element, "shape": shape}


def open_session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )


def run_onnx(path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Run the graph once on the whole input."""
    return list(open_session(path).run(None, inputs))


def run_in_batches(
    path: Path, num_rows: int, batch: Callable[[slice], dict[str, np.ndarray]], *, size: int
) -> np.ndarray:
    """The first output over `num_rows` rows, `size` at a time, to bound the memory."""
    session = open_session(path)
    parts = [
        session.run(None, batch(slice(start, start + size)))[0]
        for start in range(0, num_rows, size)
    ]
    return np.concatenate(parts)
