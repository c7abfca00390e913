"""`scale`: the command line. Each command reads its options and hands over."""

import os
import signal
import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from scale_assets.console import Console, hush_tools
from scale_assets.errors import ScaleError
from scale_assets.load import load
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
ReplayQuarantine = Annotated[
    bool,
    typer.Option(
        "--replay-quarantine",
        help="First move the quarantined lines that the contract accepts by now.",
    ),
]


class ReplayTarget(StrEnum):
    """Where history is replayed to."""

    FEEDS = "feeds"
    POSTGRES = "postgres"


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
    to: Annotated[
        ReplayTarget,
        typer.Option(
            help="feeds: files or Kafka topics, as SCALE_FEEDS says; postgres: statements for what "
            "a database holds."
        ),
    ] = ReplayTarget.FEEDS,
    connection: Annotated[
        str, typer.Option(help="With postgres: the database of SCALE_POSTGRES__<NAME>.")
    ] = "university",
) -> None:
    """Turn history into the feeds a company would have, up to a simulated day."""
    from scale_assets.demo import DemoOptions, replay_input, replay_statements

    options = DemoOptions(
        input_dir=input_dir,
        until=until.date() if until else None,
        modules=module,
        everything=everything or input_dir is not None,
    )
    if to is ReplayTarget.POSTGRES:
        replay_statements(load_settings(), options, Console(), connection)
    else:
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
def capture(
    name: Annotated[str, typer.Argument(help="Name of a declared capture.")],
    *,
    resync: Annotated[
        bool, typer.Option("--resync", help="Take new snapshots and reconcile the tables.")
    ] = False,
    table: Annotated[
        list[str] | None, typer.Option(help="Resync only this table, schema first; repeatable.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until told to end (Ctrl-C).")
    ] = False,
    replay_quarantine: ReplayQuarantine = False,
) -> None:
    """Take in what a captured database has committed since, once or continuously."""
    from scale_assets.captures import run_capture

    if table and not resync:
        raise ScaleError("--table says what to resync; give --resync too")
    refuse_replaying_while_following(follow=follow, replay_quarantine=replay_quarantine)
    anew = (table or ["*"]) if resync else []
    run_capture(
        load_settings(),
        Console(),
        name,
        resync=anew,
        follow=follow,
        replay_quarantine=replay_quarantine,
    )


@app.command()
def ingest(
    names: Annotated[list[str], typer.Argument(help="Event streams and change feeds.")],
    *,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until SIGTERM, beside other followers and runs.")
    ] = False,
    every: Annotated[float, typer.Option(help="Seconds between commits while following.")] = 2,
    report_every: Annotated[
        float, typer.Option(help="Seconds between reports to Dagster while following.")
    ] = 60,
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss", help="Go on behind records that the source lost, and record the gap."
        ),
    ] = False,
    replay_quarantine: ReplayQuarantine = False,
) -> None:
    """Take in what these feeds have and tell Dagster, without a run of its own."""
    from scale_assets.follow import ingest_feeds

    refuse_replaying_while_following(follow=follow, replay_quarantine=replay_quarantine)
    ingest_feeds(
        load_settings(),
        names,
        Console(),
        follow=follow,
        every_seconds=every,
        report_seconds=report_every,
        accept_loss=accept_loss,
        replay_quarantine=replay_quarantine,
    )


def refuse_replaying_while_following(*, follow: bool, replay_quarantine: bool) -> None:
    """Raises ScaleError: what is replayed is the quarantine as it is when a run begins."""
    if follow and replay_quarantine:
        raise ScaleError(
            "--replay-quarantine is done once and --follow has no end: replay in a run of its own, "
            "which may be beside the followers"
        )


@app.command()
def check(
    names: Annotated[list[str] | None, typer.Argument(help="Feeds; all of them if none.")] = None,
) -> None:
    """Say whether each contract may follow those that wrote its table; nothing is written."""
    from scale_assets.contract_check import check_contracts

    check_contracts(load_settings(), names or [], Console())


@app.command()
def lineage(
    column: Annotated[
        str, typer.Argument(help="ASSET.COLUMN, such as raw/clicks.site_id, or MODEL.INPUT.")
    ],
    *,
    impact: Annotated[
        bool, typer.Option("--impact", help="List what a change of it reaches instead.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a column is made from: from the served input to the field of the event."""
    from scale_assets.lineage import print_lineage

    print_lineage(load_settings(), Console(), column, impact=impact, as_json=as_json)


@app.command()
def forget(
    *,
    user: Annotated[str, typer.Option(help="Id of the person, as the sources write it.")],
    subject: Annotated[
        str, typer.Option(help="Kind of person, as contracts declare it (scale.subject).")
    ] = "user",
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; search for what is left of them.")
    ] = False,
) -> None:
    """Erase one person from everything stored, keep them out from now on, and prove it."""
    from scale_assets.forgetting import forget_person

    forget_person(load_settings(), Console(), subject=subject, id_=user, check_only=check)


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
def collect(
    *,
    host: Annotated[str | None, typer.Option(help="Address to bind to.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
) -> None:
    """Take events in over HTTP, as Segment's SDKs send them, into the feeds or into Kafka."""
    from scale_assets.collect import collect_command

    settings = load_settings()
    command = collect_command(
        settings,
        host=host or settings.collect_host,
        port=settings.collect_port if port is None else port,
    )
    os.execv(command[0], command)


@app.command()
def up(
    names: Annotated[
        list[str] | None, typer.Argument(help="postgres, redis, s3, kafka, connect; empty is all.")
    ] = None,
    *,
    env_file: Annotated[
        Path | None, typer.Option(help="Write their settings there as well, such as .env.")
    ] = None,
) -> None:
    """Start the servers that pipelines talk to on this machine, without Docker."""
    from scale_assets.servers.catalog import chosen, env_lines, start_all, write_env_file

    console = Console()
    started = start_all(chosen(load_settings().servers_dir, names or []), working=console.working)
    for name, address in started.addresses.items():
        console.line(f"{name} at {address}")
    for line in env_lines(started.settings):
        console.line(f"export {line}")
    if env_file is not None:
        write_env_file(env_file, started.settings)
    if started.failures:
        raise ScaleError("\n".join(started.failures))


@app.command()
def down(
    names: Annotated[list[str] | None, typer.Argument(help="Which of them; empty is all.")] = None,
) -> None:
    """Stop the servers that `scale up` started; their data stays."""
    from scale_assets.servers.catalog import chosen

    console = Console()
    for server in reversed(chosen(load_settings().servers_dir, names or [])):
        if server.stop():
            console.line(f"stopped {server.name}")


@app.command()
def upload(
    files: Annotated[list[Path], typer.Argument(help="Files of this machine.")],
    *,
    to: Annotated[str, typer.Option(help="Where to, as s3://bucket/prefix.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace other files of these names.")
    ] = False,
) -> None:
    """Put large files into the S3 store in parts, verified; interrupted, it goes on from there."""
    from scale_assets.upload import upload_files

    options = load_settings().s3
    for sent in upload_files(files, to=to, options=options, overwrite=overwrite):
        how = "was there" if sent.parts is None else f"{sent.parts.num_sent} parts sent"
        if sent.parts is not None and sent.parts.num_found:
            how += f", {sent.parts.num_found} were there"
        Console().line(f"{sent.url}  {sent.num_bytes:,} bytes  sha256 {sent.sha256}  {how}")


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
    # Dagster ends by the SIGINT that it sends itself, which a script's background job ignores.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execve(command[0], command, environment)  # so that a signal ends Dagster, not only us


app.command()(load)


def main() -> None:
    """Run the command line; a user's mistake ends in one readable line."""
    hush_tools()
    try:
        app()
    except ScaleError as error:
        said = escape(str(error))
        Console().rich.print(f"[red]{type(error).__name__}[/red]: {said}", markup=True)
        raise SystemExit(1) from None
