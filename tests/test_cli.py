"""What the command line itself does before it hands over."""

import os
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scale_assets.cli import app


def test_dev_in_a_scripts_background_can_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell without job control starts `scale dev &` with SIGINT ignored, and exec keeps that."""
    handled: list[object] = []
    monkeypatch.setenv("SCALE_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(os, "execve", lambda *_: handled.append(signal.getsignal(signal.SIGINT)))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert CliRunner().invoke(app, ["dev"]).exit_code == 0
    finally:
        signal.signal(signal.SIGINT, before)

    assert handled == [signal.SIG_DFL]
