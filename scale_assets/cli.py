"""`scale`: the command line. Each command reads its options and hands over."""

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from scale_assets.console import Console
from scale_assets.errors import ScaleError
from scale_assets.settings import load_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From raw events to served predictions, as one lineage graph.",
)

Until = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="Last simulated day (UTC); empty means all."),
]
InputDir = Annotated[
    Path | None, typer.Option("--input", help="Folder with the OULAD tables (CSV or Parquet).")
]
Modules = Annotated[
    list[str] | None, typer.Option("--module", help="Replay only these courses; repeatable.")
]
All = Annotated[bool, typer.Option("--all", help="Replay every course (7 million clicks).")]


@app.command()
def demo(
    *,
    until: Until = None,
    input_dir: InputDir = None,
    module: Modules = None,
    everything: All = False,
    tiny: Annotated[
        bool, typer.Option(help="A synthetic world of a few hundred students.")
    ] = False,
) -> None:
    """Replay real history, run the whole graph, train, serve two predictions, write the report."""
    from scale_assets.demo import DemoOptions, run_demo

    options = DemoOptions(
        input_dir=input_dir,
        until=until.date() if until else None,
        modules=module,
        everything=everything or input_dir is not None,
        tiny=tiny,
    )
    run_demo(load_settings(), options, Console())


@app.command()
def replay(
    *,
    until: Until = None,
    input_dir: InputDir = None,
    module: Modules = None,
    everything: All = False,
) -> None:
    """Turn history into the feeds a company would have, up to a simulated day."""
    from scale_assets.demo import DemoOptions, replay_input

    options = DemoOptions(
        input_dir=input_dir,
        until=until.date() if until else None,
        modules=module,
        everything=everything or input_dir is not None,
    )
    replay_input(load_settings(), options, Console())


@app.command()
def run() -> None:
    """Take in what arrived in the feeds and run whatever that made due."""
    from scale_assets.demo import run_graph
    from scale_assets.instance import sole_driver

    settings = load_settings()
    with sole_driver(settings):
        done = run_graph(settings, Console())
    Console().line(f"{len(done.steps)} steps in {done.wall_seconds:.1f} s")


@app.command()
def ingest(
    name: Annotated[str, typer.Argument(help="An event stream or a change feed.")],
    *,
    replay_quarantine: Annotated[
        bool,
        typer.Option(help="First move the quarantined lines that the contract accepts by now."),
    ] = False,
) -> None:
    """Read one feed on, and log the dates that it touched."""
    from scale_assets.ingest_run import run_ingest

    run_ingest(load_settings(), name, Console(), replay_quarantine=replay_quarantine)


@app.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(help="Feeds; all of them if none.")] = None,
) -> None:
    """Say whether each contract may follow those that wrote its table; nothing is written."""
    from scale_assets.contract_check import check_contracts

    check_contracts(load_settings(), names or [], Console())


@app.command()
def fetch(
    dataset: Annotated[str, typer.Argument(help="oulad")],
) -> None:
    """Download an input archive into the cache folder (the one command that goes online)."""
    from scale_assets.replay.fetch import fetch_oulad

    if dataset != "oulad":
        raise ScaleError(f"dataset is {dataset!r}; only 'oulad' can be fetched")
    console = Console()
    with console.working("download"):
        folder = fetch_oulad(load_settings().data_dir / "cache")
    console.line(f"fetched into {folder}")


@app.command()
def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to bind to.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Answer predictions over HTTP from the released models and the online features."""
    from scale_assets.demo import serve_command

    settings = load_settings()
    command = serve_command(
        settings,
        host=host or settings.serve_host,
        port=settings.serve_port if port is None else port,
    )
    os.execv(command[0], command)


@app.command()
def report() -> None:
    """Write the HTML report of what the lake, the models and the runs hold now."""
    from scale_assets.report import write_report

    Console().line(str(write_report(load_settings())))


@app.command()
def dev(*, port: Annotated[int, typer.Option(help="Port of the Dagster UI.")] = 3000) -> None:
    """Start Dagster's UI and daemon on this machine, with a persistent instance."""
    from scale_assets.instance import prepare_home

    settings = load_settings()
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(prepare_home(settings)),
        "SCALE_DESCRIBE_VOCABULARY": "1",
    }
    dagster = Path(sys.executable).with_name("dagster")
    command = [str(dagster), "dev", "--host", "127.0.0.1", "--port", str(port)]
    raise SystemExit(subprocess.run(command, env=environment, check=False).returncode)


def main() -> None:
    """Run the command line; a user's mistake ends in one readable line."""
    try:
        app()
    except ScaleError as error:
        Console().rich.print(f"[red]{type(error).__name__}[/red]: {error}", markup=True)
        raise SystemExit(1) from None
