"""How dbt runs under Dagster here: its executable, its manifest, its place for artifacts."""

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from dagster_dbt import DbtCliResource, DbtProject
from packaging.version import Version

from scale_assets.components.dbt_lineage import FILE, write_lineage
from scale_assets.errors import ScaleError
from scale_assets.settings import Settings, load_settings

PARTIAL_PARSE = "partial_parse.msgpack"


class DbtMissing(ScaleError):
    """There is no dbt to run."""


class DbtParseFailed(ScaleError):
    """A file of the dbt project has an error; the message is dbt's."""


class Dbt(DbtCliResource):
    """dbt of this environment."""

    @cached_property
    def _cli_version(self) -> Version:
        # Asking the executable, as the base class does, costs a Python start per invocation.
        return Version(importlib.metadata.version("dbt-core"))


def dbt_executable() -> str:
    """The dbt beside this Python, whatever PATH says."""
    beside = Path(sys.executable).with_name("dbt")
    found = str(beside) if beside.is_file() else shutil.which("dbt")
    if found is None:
        raise DbtMissing(f"no dbt beside {sys.executable}; run: uv pip install dbt-core dbt-duckdb")
    return found


def open_project(project_dir: Path, *, target_dir: Path) -> DbtProject:
    """The dbt project, its artifacts kept outside of it."""
    return DbtProject(project_dir=project_dir, target_path=target_dir, profiles_dir=project_dir)


def open_dbt(project: DbtProject) -> Dbt:
    return Dbt(project_dir=project, dbt_executable=dbt_executable())


def prepare_manifest(settings: Settings, project_dir: Path) -> DbtProject:
    """Write the manifest and the columns' lineage where a file of the project is newer than they.

    Raises:
        DbtParseFailed: A file of the project has an error.
    """
    project = open_project(project_dir, target_dir=settings.dbt_target_dir)
    if _is_stale(project):
        settings.apply()  # the profile reads the warehouse's path from the environment
        project.target_path.mkdir(parents=True, exist_ok=True)
        _write_manifest(project)
        write_lineage(project.target_path)
    return project


def _write_manifest(project: DbtProject) -> None:
    """With compiled SQL, for its lineage, unless a model can only be compiled in the warehouse.

    Dagster's own invocation would load dbt's adapter here, for nothing.
    """
    offline = ["--no-introspect", "--no-populate-cache"]  # opens no database
    if _dbt(project, "compile", *offline).returncode == 0:
        return
    parsed = _dbt(project, "parse")
    if parsed.returncode:
        said = (parsed.stdout + parsed.stderr).strip()
        raise DbtParseFailed(f"dbt cannot parse {project.project_dir}:\n{said}")


def _dbt(project: DbtProject, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [dbt_executable(), "--quiet", *arguments, "--target-path", str(project.target_path)]
    return subprocess.run(
        [*command, "--profiles-dir", str(project.profiles_dir)],
        cwd=project.project_dir,
        capture_output=True,
        text=True,
        check=False,
    )


def own_target(project: DbtProject, name: str) -> Path:
    """A folder for one op's artifacts, started with the prepared parse."""
    target = Path(project.target_path, name)
    target.mkdir(parents=True, exist_ok=True)
    prepared, own = project.target_path / PARTIAL_PARSE, target / PARTIAL_PARSE
    if prepared.is_file() and (not own.is_file() or own.stat().st_mtime < prepared.stat().st_mtime):
        shutil.copy2(prepared, own)
    return target


def _is_stale(project: DbtProject) -> bool:
    lineage = project.target_path / FILE  # written last
    if not project.manifest_path.is_file() or not lineage.is_file():
        return True
    prepared_at = project.manifest_path.stat().st_mtime
    return any(path.stat().st_mtime > prepared_at for path in _sources(project.project_dir))


def _sources(project_dir: Path) -> Iterator[Path]:
    for pattern in ("*.yml", "models/**/*", "macros/**/*", "tests/**/*"):
        yield from (path for path in project_dir.glob(pattern) if path.is_file())


def main() -> None:
    """Prepare the manifest of the project's dbt folder: `python -m ... [DIR]`."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "dbt_project").resolve()
    print(prepare_manifest(load_settings(), folder).manifest_path)


if __name__ == "__main__":
    main()
