"""The import arrows of the README, enforced on every file."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"scale_assets", "training", "serving", "feature_repo"}
DAGSTER_ALLOWED = {
    "scale_assets/definitions.py",
    "scale_assets/resources.py",
    "scale_assets/partitions.py",
    "scale_assets/cli.py",
    "scale_assets/demo.py",
    "scale_assets/follow.py",
    "scale_assets/live_views.py",
    "scale_assets/forgetting.py",
    "scale_assets/pipeline.py",
    "scale_assets/instance.py",
    "scale_assets/lineage.py",
    "scale_assets/captures.py",
    "scale_assets/dagster_storage.py",
    "scale_assets/declarations.py",
    "scale_assets/set_aside.py",
}
# folder -> what of ours it may import besides itself; the reason is the design's direction of flow
ARROWS = {
    "scale_assets/contracts": {"scale_assets.errors"},
    "scale_assets/lake": {"scale_assets.errors", "scale_assets.contracts"},
    "scale_assets/ingest": {"scale_assets.errors", "scale_assets.contracts", "scale_assets.lake"},
    "scale_assets/replay": {"scale_assets.errors", "scale_assets.contracts", "scale_assets.lake"},
    "scale_assets/servers": {"scale_assets.errors"},
    "scale_assets/transforms": {
        "scale_assets.errors",
        "scale_assets.contracts",
        "scale_assets.lake",
    },
    "scale_assets/features": {
        "scale_assets.errors",
        "scale_assets.contracts",
        "scale_assets.lake",
    },
    "scale_assets/monitoring": {
        "scale_assets.errors",
        "scale_assets.contracts",
        "scale_assets.lake",
        "scale_assets.features",
    },
    "scale_assets/erasure": {
        "scale_assets.errors",
        "scale_assets.contracts",
        "scale_assets.lake",
        "scale_assets.ingest",
        "scale_assets.features",
    },
    "scale_assets/report": {
        "scale_assets.lake",
        "scale_assets.ingest",
        "scale_assets.settings",
    },
    "training": set(),
    "serving": {
        "scale_assets.contracts",
        "scale_assets.features.codec",
        "scale_assets.features.reader",
    },
    "feature_repo": set(),
}
HEAVY = (
    "torch",
    "pyspark",
    "mlflow",
    "feast",
    "lightning",
    "sklearn",
    "pandas",
    "duckdb",
    "dbt.graph",
    "psycopg",
    "deltalake",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "confluent_kafka",
    "boto3",
    "onnxruntime",
)
# What of ours a step needs and loading does not: folders whole, but for what declarations say.
RUN_ONLY = (
    "scale_assets.lake",
    "scale_assets.ingest",
    "scale_assets.features",
    "scale_assets.monitoring",
    "training",
    "serving",
)
DECLARED_WITH = {
    "scale_assets.ingest",
    "scale_assets.ingest.columns",
    "scale_assets.ingest.declared",
    "scale_assets.ingest.errors",
    "scale_assets.features",
    "scale_assets.features.marts",
    "scale_assets.features.repo",
    "scale_assets.features.streaming",
    "scale_assets.features.streaming.aggregates",
    "scale_assets.features.streaming.declared",
    "scale_assets.features.streaming.keys",
}


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("folder", sorted(ARROWS))
def test_imports_follow_the_arrows(folder: str) -> None:
    own = folder.replace("/", ".")
    allowed = (*ARROWS[folder], own)
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in python_files(folder)
        for name in imports(path)
        if name.split(".")[0] in OURS
        and not any(name == each or name.startswith(f"{each}.") for each in allowed)
    ]

    assert python_files(folder)
    assert wrong == []


def test_dagster_stays_in_the_orchestration_layer() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for folder in ("scale_assets", "training", "serving", "feature_repo")
        for path in python_files(folder)
        for name in imports(path)
        if name.split(".")[0] == "dagster"
        and str(path.relative_to(ROOT)) not in DAGSTER_ALLOWED
        and not str(path.relative_to(ROOT)).startswith(
            ("scale_assets/components/", "scale_assets/defs/")
        )
    ]

    assert wrong == []


def test_one_module_reads_the_environment() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for folder in ("scale_assets", "serving")
        for path in python_files(folder)
        if ("os.environ[" in path.read_text() or "getenv(" in path.read_text())
        and path.name not in {"settings.py", "instance.py", "faults.py"}  # faults: tests only
    ]

    assert wrong == []


def test_nothing_of_the_framework_knows_the_reference_pipeline() -> None:
    words = ("oulad", "withdrawal", "presentation", "registration")
    wrong = [
        f"{path.relative_to(ROOT)} says {word!r}"
        for folder in ("components", "contracts", "lake", "ingest", "transforms")
        for path in python_files(f"scale_assets/{folder}")
        for word in words
        if word in path.read_text().lower()
    ]

    assert wrong == []


@pytest.fixture(scope="module")
def first_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which nothing is prepared yet."""
    return tmp_path_factory.mktemp("home")


def loaded_modules(home: Path, folder: Path = ROOT) -> set[str]:
    """What is imported once the definitions of the project in ``folder`` are loaded."""
    code = "import sys, scale_assets.definitions as d; d.defs(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "SCALE_DATA_DIR": str(home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(loaded.stdout.split())


@pytest.mark.parametrize("times", ["the first time", "again"])
def test_loading_the_definitions_imports_nothing_heavy(first_home: Path, times: str) -> None:
    modules = loaded_modules(first_home)
    early = {name for name in modules if name.startswith(RUN_ONLY)} - DECLARED_WITH

    assert modules & set(HEAVY) == set(), times
    assert early == set(), "import these inside the functions that a step runs"


CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: people
version: 1.0.0
status: active
schema:
  - name: people
    properties:
      - {name: person_id, logicalType: string, required: true, primaryKey: true}
      - {name: seen_at, logicalType: timestamp, required: true}
"""
EVENTS = """
type: scale_assets.components.EventStream
attributes:
  name: NAME
  contract: people.odcs.yaml
  transport: TRANSPORT
  key: [person_id]
  event_time: seen_at
  calendar: {start: "2020-01-01"}
"""
CAPTURE = """
type: scale_assets.components.ChangeFeed
attributes:
  name: captured
  contract: people.odcs.yaml
  transport: {type: postgres, connection: shop, slot: s, publication: s, table: public.people}
  key: [person_id]
"""


def test_declaring_every_transport_imports_none_of_their_clients(
    tmp_path: Path, first_home: Path
) -> None:
    declared = tmp_path / "shop" / "defs"
    declared.mkdir(parents=True)
    (tmp_path / "dg.toml").write_text(
        'directory_type = "project"\n\n[project]\nroot_module = "shop"\n'
    )
    (declared / "people.odcs.yaml").write_text(CONTRACT)
    streams = {
        "topic": "{type: kafka, topic: people}",
        "stream": "{type: kinesis, stream: people}",
        "folder": "{type: files, path: people}",
    }
    documents = [
        EVENTS.replace("NAME", name).replace("TRANSPORT", transport)
        for name, transport in streams.items()
    ]
    (declared / "defs.yaml").write_text("---".join([*documents, CAPTURE]))

    modules = loaded_modules(first_home, tmp_path)

    assert "scale_assets.components.database_capture" in modules
    assert modules & set(HEAVY) == set()
    assert {name for name in modules if name.startswith(RUN_ONLY)} <= DECLARED_WITH


@pytest.mark.parametrize("package", ["serving.app", "serving.collector.__main__", "training.run"])
def test_serving_and_training_run_without_dagster(package: str) -> None:
    banned = ("dagster", "torch") if package.startswith("serving") else ("dagster",)
    code = f"import sys, {package}; print(*sorted(set({banned!r}) & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert loaded.stdout.split() == []


@pytest.mark.parametrize("module", ["serving.release", "training.export"])
def test_onnx_runtime_sends_nothing_home(module: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    said = subprocess.run(
        [sys.executable, "-c", f"import os, {module}; print(os.environ['ORT_DISABLE_TELEMETRY'])"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert said.stdout.strip() == "1"
