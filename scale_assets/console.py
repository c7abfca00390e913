"""What a person sees while a command runs: a live line on a terminal, plain lines elsewhere."""

import atexit
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console as RichConsole
from rich.markup import escape


class Console:
    """Prints headings, steps with their time, and results."""

    def __init__(self, rich: RichConsole | None = None) -> None:
        # A descriptor of our own: while tools run, descriptors 1 and 2 lead to a log.
        ours = os.fdopen(os.dup(1), "w", buffering=1) if rich is None else None
        self.rich = rich or RichConsole(file=ours, highlight=False, soft_wrap=True)
        self._spinning: dict[str, float] = {}
        self._status = self.rich.status("") if self.rich.is_terminal else None

    def heading(self, text: str) -> None:
        self.rich.print(f"\n[bold]{escape(text)}[/bold]")

    def line(self, text: str) -> None:
        self.rich.print(escape(text))

    def step(self, name: str, state: str, seconds: float | None) -> None:
        """A listener for `pipeline.run_due`: one line per finished step, a spinner meanwhile."""
        if state == "start":
            self._spinning[name] = time.monotonic()
        else:
            self._spinning.pop(name, None)
        if state == "done":
            self.rich.print(f"  [green]done[/green] {escape(name)} [dim]{seconds:.1f} s[/dim]")
        elif state == "failed":
            self.rich.print(f"  [red]failed[/red] {escape(name)}")
        elif self._status is None:
            self.rich.print(f"  ...  {escape(name)}")
        self._show_spinner()

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show ``text`` while the block runs, and its time afterwards."""
        self.step(text, "start", None)
        started = time.monotonic()
        try:
            yield
        except BaseException:
            self.step(text, "failed", None)
            raise
        self.step(text, "done", time.monotonic() - started)

    @contextmanager
    def tools_speak_to(self, log: Path) -> Iterator[None]:
        """Send what this process and its children print to ``log``, except through this console.

        What C libraries say about themselves while the interpreter ends goes there as well.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        _redirect(log, 1, 2)
        atexit.register(_redirect, log, 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for target, descriptor in zip((1, 2), kept, strict=True):
                os.dup2(descriptor, target)
                os.close(descriptor)

    def _show_spinner(self) -> None:
        if self._status is None:
            return
        if self._spinning:
            self._status.update(" ".join(escape(name) for name in self._spinning))
            self._status.start()
        else:
            self._status.stop()


# What Dagster says, dozens of times, of features that this project chose knowingly.
HUSHED = (r".*is currently in (beta|preview)", r"sqlglot\[rs\] is deprecated")


def hush_tools() -> None:
    """Keep the warnings of tools out of what a command says, in this process."""
    for message in HUSHED:
        warnings.filterwarnings("ignore", message=message)


def _redirect(log: Path, *descriptors: int) -> None:
    with log.open("ab") as file:
        for descriptor in descriptors:
            os.dup2(file.fileno(), descriptor)
