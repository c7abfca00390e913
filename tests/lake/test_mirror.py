"""The mirror keeps to its size, and keeps what somebody may still open."""

import os
import time
from pathlib import Path

from scale_assets.lake.mirror import MAY_BE_OPENED_SECONDS, Mirror
from scale_assets.lake.s3 import MIB, S3Options


def test_the_longest_unused_go_first_and_the_lately_used_stay(tmp_path: Path) -> None:
    options = S3Options(cache_dir=str(tmp_path), cache_gib=2 / 1024, region="us-east-1")
    mirror = Mirror(options, "lake")
    mirror.folder.mkdir(parents=True)
    long_ago = time.time() - MAY_BE_OPENED_SECONDS
    for name, used in [("a", -3), ("b", -2), ("c", -1), ("d", 60), ("e", 70)]:
        path = mirror.folder / f"{name}.parquet"
        path.write_bytes(bytes(MIB))
        os.utime(path, (long_ago + used, long_ago + used))

    mirror.make_room()
    assert {path.stem for path in mirror.folder.iterdir()} == {"d", "e"}

    (mirror.folder / "f.parquet").write_bytes(bytes(MIB))
    mirror.make_room()
    assert {path.stem for path in mirror.folder.iterdir()} == {"d", "e", "f"}
