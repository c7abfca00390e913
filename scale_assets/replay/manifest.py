"""feeds/replay.json: what the feeds are made from, and how many rows each day's file has."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from scale_assets.replay.files import FeedsError, write_whole

MANIFEST_NAME = "replay.json"
FORMAT = 1  # raise it when the same input would give other bytes
WAYS_OUT = (
    "Set SCALE_DATA_DIR to an empty folder, remove this one (`make clean` removes .data), "
    "or ask for what it holds"
)


@dataclass(frozen=True)
class Manifest:
    """Written before the first feed file and never changed."""

    format: int
    fingerprint: str  # of the input's files
    presentations: list[str]
    rows: dict[str, dict[str, int]]  # feed -> ISO date -> rows in that day's file
    source: str = ""  # in words; for people alone

    @property
    def world(self) -> str:
        """What is replayed, in words."""
        modules = sorted({name.partition("-")[0] for name in self.presentations})
        chosen = f"{len(self.presentations)} presentations of {', '.join(modules)}"
        return f"{self.source or f'an input with fingerprint {self.fingerprint[:12]}'}, {chosen}"


def read_manifest(feeds_dir: Path, wanted: Manifest) -> Manifest | None:
    """The folder's manifest, or None where nothing was replayed yet.

    Raises:
        FeedsError: The folder's feeds come from another input, choice or version.
    """
    path = feeds_dir / MANIFEST_NAME
    if not path.is_file():
        if strange := next(feeds_dir.glob("*/*.jsonl"), None):
            raise FeedsError(
                f"{feeds_dir} has feeds ({strange.relative_to(feeds_dir)}) but no {MANIFEST_NAME}, "
                "so they are not this replay's; give an empty folder"
            )
        return None
    try:
        found = Manifest(**json.loads(path.read_text()))
    except (json.JSONDecodeError, TypeError) as error:
        raise FeedsError(f"{path} is no replay manifest ({error}); give an empty folder") from error
    if found.format != wanted.format:
        raise FeedsError(
            f"{feeds_dir} was written by another version of the replay (format {found.format}, now "
            f"{wanted.format}). {WAYS_OUT}"
        )
    same = (wanted.fingerprint, wanted.presentations)
    if (found.fingerprint, found.presentations) != same:
        raise FeedsError(
            f"{feeds_dir} holds {found.world}; asked for is {wanted.world}. A data folder holds one "
            f"world. {WAYS_OUT}"
        )
    return found


def write_manifest(feeds_dir: Path, manifest: Manifest) -> None:
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True)
    write_whole(feeds_dir / MANIFEST_NAME, text.encode() + b"\n")
