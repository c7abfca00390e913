"""Followers as processes of their own, so that they can be told to end, and killed."""

import pickle
import signal
import subprocess
import sys
from pathlib import Path

from scale_assets.ingest.feed import Feed
from scale_assets.ingest.follow import Pace
from scale_assets.lake import Lake

PROGRAM = """
import os, pickle, signal, sys, threading
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())  # first: the others take seconds when busy
from scale_assets.ingest.follow import Follower
from scale_assets.lake import Lake
root, feed, pace = pickle.loads(sys.stdin.buffer.read())
print("loaded", flush=True)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads on, and a full pipe would stop it
Follower(Lake(root), feed, stop=stop, tell=lambda report: None, pace=pace).run()
"""
ROOT = Path(__file__).resolve().parents[3]


def start_follower(lake: Lake, feed: Feed, pace: Pace) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(pickle.dumps((lake.root, feed, pace)))
    process.stdin.close()
    process.stdin = None
    return process


def wait_until_loaded(process: subprocess.Popen[bytes]) -> None:
    """Imports take seconds on a busy machine; a kill within them would prove nothing."""
    assert process.stdout is not None
    assert process.stdout.readline() == b"loaded\n"


def end(process: subprocess.Popen[bytes], *, hard: bool = False) -> None:
    """Tell it to end and see that it does so without an error; or kill it."""
    process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if hard else 0), said.decode()
