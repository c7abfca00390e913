"""What every server has: a name, a folder, ports that stay the same, a start and a stop."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from scale_assets.servers import process
from scale_assets.servers.process import Launch, Running

PORTS = "ports.json"


class Server(ABC):
    """One server in a folder of its own; it listens on loopback only."""

    name: ClassVar[str]
    default_ports: ClassVar[tuple[int, ...]]  # the first is the one that clients use

    def __init__(self, folder: Path, *, any_port: bool = False) -> None:
        self.folder = folder.absolute()
        self.any_port = any_port

    @abstractmethod
    def launch(self) -> Launch:
        """Prepare the folder, which exists, and say how to start.

        Raises:
            ServerUnavailable: Something it needs is not here.
        """

    def start(self) -> Running:
        """Start it unless it runs; the same folder keeps its data and its ports.

        Raises:
            ServerUnavailable: Something it needs is not here.
            ServerFailed: It does not come up.
        """
        found = self.running()
        if found is not None:
            return found
        self.folder.mkdir(parents=True, exist_ok=True)
        return process.start(self.name, self.folder, self.launch())

    def running(self) -> Running | None:
        return process.running(self.folder) if self.folder.is_dir() else None

    def stop(self, *, hard: bool = False) -> bool:
        return self.folder.is_dir() and process.stop(self.folder, hard=hard)

    @contextmanager
    def up(self) -> Iterator[Running]:
        """The server for the time of a block."""
        try:
            yield self.start()
        finally:
            self.stop()

    @property
    def ports(self) -> tuple[int, ...]:
        """The usual ports where all of them are free at the first start, else any free ones."""
        path = self.folder / PORTS
        if not path.is_file():
            path.write_text(json.dumps(self._choose_ports()))
        return tuple(json.loads(path.read_text()))

    @property
    def port(self) -> int:
        return self.ports[0]

    def _choose_ports(self) -> list[int]:
        usual = list(self.default_ports)
        if self.any_port or any(process.listens(port) for port in usual):
            return process.free_ports(len(usual))
        return usual
