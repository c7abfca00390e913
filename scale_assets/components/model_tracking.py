"""MLflow as the models use it: one run per candidate, one registered version per release.

mlflow takes seconds to import, so that happens on the first use of a client.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_PARAM_LENGTH = 6000  # MLflow's limit of a parameter's value
CHAMPION = "champion"
CHALLENGER = "challenger"


class CandidateRuns:
    """The MLflow runs of the candidates trained together, opened on their first message."""

    def __init__(self, client: "MlflowClient", *, model: str, artifacts_dir: Path) -> None:
        self.client = client
        self.experiment_id = experiment(client, model, artifacts_dir)
        self.run_ids: dict[str, str] = {}
        self.num_reports: dict[str, int] = {}

    def start(self, candidate: str, tags: Mapping[str, str]) -> None:
        run = self.client.create_run(self.experiment_id, run_name=candidate, tags=dict(tags))
        self.run_ids[candidate] = str(run.info.run_id)
        self.num_reports[candidate] = 0

    def log_params(self, candidate: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        entities = [
            Param(name, json.dumps(value)[:MAX_PARAM_LENGTH]) for name, value in params.items()
        ]
        self.client.log_batch(self.run_ids[candidate], params=entities)

    def log_metrics(self, candidate: str, metrics: Mapping[str, float]) -> None:
        """`epoch` (else `step`, else the number of the report) becomes MLflow's step."""
        number = self.num_reports[candidate]
        self.num_reports[candidate] += 1
        step = int(metrics.get("epoch", metrics.get("step", number)))
        log_metrics(self.client, self.run_ids[candidate], metrics, step=step)

    def finish(self, candidate: str) -> str:
        run_id = self.run_ids.pop(candidate)
        self.client.set_terminated(run_id, status="FINISHED")
        return run_id

    def fail_unfinished(self) -> None:
        """After an error: no run may stay `RUNNING` for ever."""
        for run_id in self.run_ids.values():
            self.client.set_terminated(run_id, status="FAILED")
        self.run_ids.clear()


def experiment(client: "MlflowClient", model: str, artifacts_dir: Path) -> str:
    """The model's experiment; its artifacts lie in the data folder, not where MLflow was started."""
    found = client.get_experiment_by_name(model)
    if found is not None:
        return str(found.experiment_id)
    return str(client.create_experiment(model, artifact_location=artifacts_dir.as_uri()))


def log_metrics(
    client: "MlflowClient", run_id: str, metrics: Mapping[str, float], *, step: int = 0
) -> None:
    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    client.log_batch(
        run_id, metrics=[Metric(name, value, now_ms, step) for name, value in metrics.items()]
    )


def register(
    client: "MlflowClient",
    *,
    model: str,
    run_id: str,
    files: Mapping[str, Path],
    tags: Mapping[str, str],
) -> tuple[str, str]:
    """Store the graph with its signature as a new version; returns the version and its folder.

    The version's folder belongs to its run and never changes, so that a later training, which
    overwrites the candidate's folder, cannot change a registered model.
    """
    with tempfile.TemporaryDirectory(prefix="scale-register-") as folder:
        staged = Path(folder) / "model"
        save_with_signature(files["model.onnx"], staged)
        for name, path in files.items():
            shutil.copyfile(path, staged / name)
        client.log_artifacts(run_id, str(staged), "model")
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    if not any(found.name == model for found in client.search_registered_models(f"name='{model}'")):
        client.create_registered_model(model)
    version = client.create_model_version(model, source=source, run_id=run_id, tags=dict(tags))
    client.set_registered_model_alias(model, CHALLENGER, version.version)
    return str(version.version), source


def save_with_signature(graph: Path, folder: Path) -> None:
    """An MLflow model around the ONNX file, with the signature that its `signature.json` says."""
    import mlflow.onnx
    import numpy as np
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    described = json.loads(graph.with_name("signature.json").read_text())
    schemas = [
        Schema(
            [
                TensorSpec(
                    np.dtype(each["type"].replace("string", "str")), each["shape"], each["name"]
                )
                for each in described[side]
            ]
        )
        for side in ("inputs", "outputs")
    ]
    mlflow.onnx.save_model(
        onnx.load(str(graph)),
        str(folder),
        signature=ModelSignature(inputs=schemas[0], outputs=schemas[1]),
        pip_requirements=["onnxruntime"],
        save_as_external_data=False,
    )


def crown(
    client: "MlflowClient", *, model: str, version: str, metric: str, value: float
) -> tuple[bool, str]:
    """Make the version champion if it is the first, or beats the present one's metric."""
    aliases = client.get_registered_model(model).aliases
    if CHAMPION not in aliases:
        client.set_registered_model_alias(model, CHAMPION, version)
        return True, f"version {version} is the first champion"
    present = client.get_model_version(model, aliases[CHAMPION])
    before = float(present.tags[metric]) if metric in present.tags else float("-inf")
    if value > before:
        client.set_registered_model_alias(model, CHAMPION, version)
        return (
            True,
            f"version {version} ({value:.4f}) beats version {present.version} ({before:.4f})",
        )
    return False, f"version {present.version} ({before:.4f}) stays champion over {value:.4f}"
