"""Exported graphs take raw features and answer as the fitted models do."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.tabular_worlds import write_dataset
from training import withdrawal_baselines
from training.dataset import open_dataset, read_tabular
from training.errors import TrainingError
from training.export import (
    StringInput,
    encode,
    export_torch,
    prepend_string_encoders,
    run_onnx,
    vocabulary_of,
    write_signature,
)
from training.tabular_network import Probabilities, TabularEnsemble

# torch's exporter warns about its own use of torch
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
VOCABULARIES = [["AAA", "BBB"], ["North", "South"]]
STRINGS = np.array([["AAA", "South"], ["BBB", ""], ["Mars", "North"]], dtype=object)


@pytest.fixture(scope="module")
def ensemble() -> TabularEnsemble:
    torch.manual_seed(0)
    network = TabularEnsemble(
        num_numeric=4,
        cardinalities=[2, 2],
        num_labels=2,
        num_members=3,
        hidden_dim=8,
        depth=2,
        num_bins=4,
        embedding_dim=3,
        dropout=0.5,
    )
    network.numeric.fit(numbers(500))
    return network.eval()


def numbers(num_rows: int) -> np.ndarray:
    generator = np.random.default_rng(num_rows)
    values = generator.lognormal(2, 2, (num_rows, 4)) * generator.choice([-1, 1], (num_rows, 4))
    values[generator.random((num_rows, 4)) < 0.2] = np.nan
    values[:, 3] = 7.0  # a constant
    return values.astype(np.float32)


@pytest.fixture(scope="module")
def network_path(ensemble: TabularEnsemble, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "model.onnx"
    example = {
        "numeric": torch.zeros(3, 4),
        "categorical_codes": torch.zeros(3, 2, dtype=torch.int64),
    }
    export_torch(
        Probabilities(ensemble),
        example,
        ["probabilities"],
        path,
        dynamic={name: {0: "batch"} for name in example},
    )
    prepend_string_encoders(
        path,
        [StringInput(name="categorical", codes="categorical_codes", vocabularies=VOCABULARIES)],
    )
    return path


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_the_network_answers_as_torch_does_at_every_batch_size(
    ensemble: TabularEnsemble, network_path: Path, batch: int
) -> None:
    numeric_BF = numbers(batch)
    categorical_BC = np.resize(STRINGS, (batch, 2)).astype(object)
    codes_BC = torch.from_numpy(encode(categorical_BC, VOCABULARIES))

    (released_BT,) = run_onnx(network_path, {"numeric": numeric_BF, "categorical": categorical_BC})

    with torch.no_grad():
        expected_BT = ensemble.probabilities(torch.from_numpy(numeric_BF), codes_BC)
    np.testing.assert_allclose(released_BT, expected_BT.numpy(), rtol=1e-4, atol=1e-6)
    assert released_BT.shape == (batch, 2)


def test_infinities_and_unknown_strings_still_give_probabilities(network_path: Path) -> None:
    numeric_BF = np.array([[np.inf, -np.inf, 1e38, np.nan]], dtype=np.float32)
    categorical_BC = np.array([["never seen", ""]], dtype=object)

    (released_BT,) = run_onnx(network_path, {"numeric": numeric_BF, "categorical": categorical_BC})

    assert ((released_BT >= 0) & (released_BT <= 1)).all()


def test_the_signature_is_read_from_the_graph(network_path: Path) -> None:
    write_signature(network_path)

    signature = json.loads(network_path.with_name("signature.json").read_text())
    assert signature == {
        "inputs": [
            {"name": "numeric", "type": "float32", "shape": [-1, 4]},
            {"name": "categorical", "type": "string", "shape": [-1, 2]},
        ],
        "outputs": [{"name": "probabilities", "type": "float32", "shape": [-1, 2]}],
    }


def test_encoding_an_input_that_is_not_there_is_refused(network_path: Path) -> None:
    wrong = StringInput(name="text", codes="codes", vocabularies=[["a"]])

    with pytest.raises(TrainingError, match=r"no input 'codes'.*numeric"):
        prepend_string_encoders(network_path, [wrong])


def test_codes_of_numpy_and_vocabulary_agree() -> None:
    assert vocabulary_of(STRINGS[:, 1]) == ["North", "South"]
    assert encode(STRINGS, VOCABULARIES).tolist() == [[1, 2], [2, 0], [0, 1]]


@pytest.mark.parametrize("name", ["logistic", "boosting"])
def test_a_baseline_answers_as_scikit_learn_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_dataset(write_dataset(tmp_path / "dataset"))
    fitted = []
    export = withdrawal_baselines.export_estimators
    monkeypatch.setattr(
        withdrawal_baselines,
        "export_estimators",
        lambda estimators, *rest, **named: (
            fitted.extend(estimators),
            export(estimators, *rest, **named),
        ),
    )

    getattr(withdrawal_baselines, name)(
        dataset=source.folder, output=tmp_path, report=lambda metrics: None
    )

    test = read_tabular(source, "test")
    train = read_tabular(source, "train")
    vocabularies = [vocabulary_of(column) for column in train.categorical_BC.T]
    inputs_BI = withdrawal_baselines.estimator_inputs(test, vocabularies, linear=name == "logistic")
    expected_BT = np.stack(
        [estimator.predict_proba(inputs_BI)[:, 1] for estimator in fitted], axis=1
    )
    inputs = {"numeric": test.numeric_BF, "categorical": test.categorical_BC}
    (released_BT,) = run_onnx(tmp_path / "model.onnx", inputs)
    np.testing.assert_allclose(released_BT, expected_BT, rtol=1e-3, atol=1e-5)
    assert len(fitted) == 2
