"""`scale demo`: from raw events to a served prediction, with nothing set up beforehand."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from scale_assets.console import Console
from scale_assets.errors import ScaleError
from scale_assets.handover import online_store_options, vector_options
from scale_assets.instance import clear_dead_runs, open_instance, sole_driver
from scale_assets.lake import Lake
from scale_assets.pipeline import PipelineRun, run_due
from scale_assets.set_aside import set_aside
from scale_assets.settings import Settings, project_dir

if TYPE_CHECKING:
    from scale_assets.replay.source import Input
    from scale_assets.replay.world import WorldSpec

START_TIMEOUT_S = 60
SMALL_SUBSET = ["GGG"]  # minutes on two cores


class ServerDidNotStart(ScaleError):
    """The prediction server ended or stayed silent."""


@dataclass(frozen=True)
class DemoOptions:
    """What to replay, and until when."""

    input_dir: Path | None
    until: date | None
    modules: list[str] | None = None
    everything: bool = False
    tiny: bool = False


def run_demo(settings: Settings, options: DemoOptions, console: Console) -> None:
    """Replay, run what is due, ask the server for two predictions, write the report."""
    from scale_assets.transforms.session import require_java

    require_java()
    with sole_driver(settings):
        started = time.monotonic()
        console.heading("Replaying history into feeds")
        replay_input(settings, options, console)
        console.heading("Running the asset graph (only what is due)")
        run = run_graph(settings, console)
        console.heading("Asking the server")
        ask_server(settings, console)
        console.heading("Report")
        with console.working("report"):
            write_run_log(settings, run, total_seconds=time.monotonic() - started)
            from scale_assets.report import write_report

            write_report(settings)
    print_next_steps(settings, console)


def replay_input(settings: Settings, options: DemoOptions, console: Console) -> None:
    """Write the feeds up to the day asked for, where SCALE_FEEDS says; say which input it is."""
    from scale_assets.replay.feeds import replay

    source, modules = _input(settings, options, console)
    with console.working("replay"):
        report = replay(source, settings.feeds_dir, until=options.until, modules=modules)
    console.line(
        f"  {sum(report.new_rows.values()):,} new rows on {len(report.new_days)} new days "
        f"({report.first_day} to {report.last_day})"
    )
    if settings.feeds == "kafka":
        send_to_kafka(settings, options, console)


def send_to_kafka(settings: Settings, options: DemoOptions, console: Console) -> None:
    """Send what the feeds folder has beyond what the topics have; snapshots stay files."""
    from scale_assets.components.kafka_transport import kafka_cluster
    from scale_assets.replay.kafka import send_feeds

    cluster = kafka_cluster(settings)
    with console.working(f"replay to Kafka at {cluster.bootstrap_servers}"):
        sent = send_feeds(
            settings.feeds_dir,
            cluster.client_properties(),
            prefix=settings.kafka_topic_prefix,
            until=options.until,
        )
    console.line(f"  {sent.num_records:,} records of {sent.num_days} days, up to {sent.last_day}")


def replay_statements(
    settings: Settings, options: DemoOptions, console: Console, connection: str
) -> None:
    """Write what a database would hold into one, up to the day asked for."""
    from scale_assets.replay.postgres import replay_to_postgres

    dsn = settings.postgres_dsn(connection)
    source, modules = _input(settings, options, console)
    with console.working("replay"):
        done = replay_to_postgres(source, dsn, until=options.until, modules=modules)
    console.line(f"  {done.num_changes:,} changes on {done.num_days} days, up to {done.last_day}")


def _input(
    settings: Settings, options: DemoOptions, console: Console
) -> tuple["Input", list[str] | None]:
    """The input and the courses chosen of it; None means all."""
    from scale_assets.replay.source import find_input

    source = find_input(
        options.input_dir or settings.input_dir,
        settings.data_dir / "cache",
        project_root=project_dir(),
        synthetic=tiny_world() if options.tiny else None,
    )
    console.line(f"  input: {source.description}")
    modules = options.modules or (None if options.everything else small_subset(source))
    console.line(f"  courses: {', '.join(modules) if modules else 'all'}")
    return source, modules


def tiny_world() -> "WorldSpec":
    """A world that goes through every stage in a minute."""
    from scale_assets.replay.world import WorldSpec

    return WorldSpec(modules=("AAA",), students_per_presentation=150, sites_per_presentation=40)


def small_subset(source: "Input") -> list[str] | None:
    """The default courses, where the input has them; a synthetic world is small as it is."""
    from scale_assets.replay.source import module_names

    return SMALL_SUBSET if set(SMALL_SUBSET) <= set(module_names(source)) else None


def run_graph(settings: Settings, console: Console) -> PipelineRun:
    """Look for new input, then run what it made due."""
    from scale_assets.definitions import defs

    log = settings.data_dir / "tools.log"
    shown = log.relative_to(Path.cwd()) if log.is_relative_to(Path.cwd()) else log
    console.line(f"  what dbt and Spark say goes to {shown}")
    with console.tools_speak_to(log), open_instance(settings) as instance:
        if cleared := clear_dead_runs(instance):
            console.line(f"  {cleared} run(s) of a killed process closed; their work is redone")
        definitions, roots = defs(), dg.AssetSelection.tag("scale/reads", "feed")
        try:
            return run_due(definitions, instance, roots=roots, listener=console.step)
        finally:
            for line in set_aside(instance, roots.resolve(definitions.resolve_asset_graph())):
                console.line(f"  {line}")


def write_run_log(settings: Settings, run: PipelineRun, *, total_seconds: float) -> None:
    """Keep the timings of this run for the report, one JSON line per run."""
    record = {
        "total_seconds": total_seconds,
        "graph_seconds": run.wall_seconds,
        "steps": [asdict(step) for step in run.steps],
    }
    with (settings.data_dir / "runs.jsonl").open("a") as log:
        log.write(json.dumps(record) + "\n")


def ask_server(settings: Settings, console: Console) -> None:
    """Start the server, ask each released model about one student, show the answers, stop it."""
    released = {link.parent.name for link in settings.releases_dir.glob("*/current")}
    if not released:
        console.line("  no model is released yet: replay further with a later --until")
        return
    registration_id = busiest_registration(Lake(settings.lake_dir, s3=settings.s3))
    with running_server(settings) as url:
        for model, (path, body) in questions(registration_id).items():
            if model not in released:
                console.line(f"  {model}: not released yet, its test period has not come")
                continue
            console.line(f"  POST {path} {json.dumps(body)}")
            console.line(f"    {json.dumps(post(url + path, body))}")


def questions(registration_id: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """By model, the route that asks it about this student, and the body."""
    asked = {"registration_id": registration_id}
    return {
        "withdrawal": ("/v1/predict/withdrawal", asked),
        "next_site": ("/v1/recommend", {**asked, "k": 5}),
    }


def busiest_registration(lake: Lake) -> str:
    """Whoever clicked most in the week before the latest feature time."""
    import duckdb

    activity = lake.duckdb_relation_sql("registration_activity")
    with duckdb.connect() as connection:
        row = connection.execute(
            f"with activity as ({activity}) select registration_id from activity "
            "where feature_time = (select max(feature_time) from activity) "
            "order by clicks_7d desc, registration_id limit 1"
        ).fetchone()
    if row is None:
        raise ScaleError("registration_activity is empty: replay further with --until")
    return str(row[0])


@contextmanager
def running_server(settings: Settings) -> Iterator[str]:
    """The server in a child process, on a free port, stopped at the end."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = serve_command(settings, host="127.0.0.1", port=port, vectors_sample=1)
    process = subprocess.Popen(  # who asks knows what it serves
        command, stdout=subprocess.DEVNULL, close_fds=False
    )
    try:
        _wait_until_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def serve_command(
    settings: Settings, *, host: str, port: int, vectors_sample: float | None = None
) -> list[str]:
    """How to start the server: its process holds neither torch nor Dagster."""
    sample = settings.vectors_sample if vectors_sample is None else vectors_sample
    return [
        *(sys.executable, "-m", "serving"),
        *("--releases", str(settings.releases_dir)),
        *online_store_options(settings),
        *vector_options(settings, sample=sample),
        *("--host", host, "--port", str(port)),
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerDidNotStart(f"the server ended with code {process.returncode}")
        try:
            with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=1):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
    raise ServerDidNotStart(f"{url}/v2/health/ready did not answer within {START_TIMEOUT_S} s")


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def print_next_steps(settings: Settings, console: Console) -> None:
    registration_id = busiest_registration(Lake(settings.lake_dir, s3=settings.s3))
    base = f"http://{settings.serve_host}:{settings.serve_port}"
    console.heading("Done. Go on with")
    console.line(f"  report      {settings.report_path}")
    console.line("  make dev    the asset graph on http://localhost:3000")
    console.line(f"  make serve  predictions on {base} (API at {base}/docs); then ask it:")
    for path, body in questions(registration_id).values():
        console.line(
            f"  curl -s {base}{path} -H 'content-type: application/json' -d '{json.dumps(body)}'"
        )
