"""Large files arrive whole, and go on where SIGKILL cut them off."""

import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scale_assets.lake.s3 import MIB, S3Options, S3Place
from scale_assets.upload import UploadRefused, upload_files
from tests.lake.conftest import faults, s3_options, s3_root
from tests.lake.store import Fault, Faults

__all__ = ["faults", "s3_options", "s3_root"]
pytestmark = pytest.mark.slow

PROGRAM = """
import pickle, sys
from scale_assets.upload import upload_files
files, to, options = pickle.loads(sys.stdin.buffer.read())
print(*upload_files(files, to=to, options=options))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "raw.bin"
    path.write_bytes(os.urandom(21 * MIB))  # five parts
    return path


def stored(options: S3Options, root: str, name: str) -> bytes:
    place = S3Place.parse(root)
    found = options.client().get_object(Bucket=place.bucket, Key=place.key(name))
    return bytes(found["Body"].read())


@pytest.mark.fault
@pytest.mark.parametrize("point", ["after_part:1", "after_part:3", "before_complete"])
def test_killed_it_goes_on_from_the_parts_in_the_store(
    file: Path, s3_root: str, s3_options: S3Options, point: str
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=pickle.dumps(([file], s3_root, s3_options)),
        env={**os.environ, "SCALE_FAULT": point},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    [sent] = upload_files([file], to=s3_root, options=s3_options)

    assert sent.parts is not None
    assert sent.parts.num_found >= (5 if point == "before_complete" else int(point[-1]))
    assert sent.parts.num_sent + sent.parts.num_found == 5
    assert stored(s3_options, s3_root, "raw.bin") == file.read_bytes()
    [again] = upload_files([file], to=s3_root, options=s3_options)
    assert again.parts is None


@pytest.mark.fault
def test_a_file_that_changed_since_is_uploaded_as_it_is_now(
    file: Path, s3_root: str, s3_options: S3Options
) -> None:
    subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=pickle.dumps(([file], s3_root, s3_options)),
        env={**os.environ, "SCALE_FAULT": "after_part:2"},
        capture_output=True,
        check=False,
    )
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    list(upload_files([file], to=s3_root, options=s3_options))
    assert stored(s3_options, s3_root, "raw.bin") == file.read_bytes()
    [again] = upload_files([file], to=s3_root, options=s3_options)
    assert again.parts is None


@pytest.mark.fault
def test_a_completion_whose_reply_was_lost_is_noticed(
    file: Path, s3_root: str, s3_options: S3Options, faults: Faults
) -> None:
    options = replace(s3_options, endpoint_url=faults.url, timeout_seconds=1.0)
    with faults.injected(Fault("complete", "lost")) as fault:
        list(upload_files([file], to=s3_root, options=options))
    assert fault.hit == 1
    assert stored(s3_options, s3_root, "raw.bin") == file.read_bytes()


def test_another_file_is_replaced_only_when_told(
    tmp_path: Path, s3_root: str, s3_options: S3Options
) -> None:
    small = tmp_path / "small.txt"
    small.write_text("one")
    list(upload_files([small], to=s3_root, options=s3_options))
    small.write_text("two")
    with pytest.raises(UploadRefused, match="--overwrite"):
        list(upload_files([small], to=s3_root, options=s3_options))
    list(upload_files([small], to=s3_root, options=s3_options, overwrite=True))
    assert stored(s3_options, s3_root, "small.txt") == b"two"
