"""What erasure reaches: the lake, files of datasets, predictions and served vectors, the stores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scale_assets.erasure.person import Feed
from scale_assets.features.repo import ViewDeclaration
from scale_assets.features.stores import open_backend
from scale_assets.lake import Lake


@dataclass(frozen=True, kw_only=True)
class OutOfReach:
    """Something that may still hold the person, and what is to be done about it."""

    what: str
    where: str
    todo: str


def shown(url: str) -> str:
    """A store's address without its secrets."""
    with open_backend(url) as backend:
        return backend.where


@dataclass(frozen=True, kw_only=True)
class Scope:
    """The places named in every statement; nothing else is touched or searched."""

    lake: Lake
    feeds: Sequence[Feed]
    views: Sequence[ViewDeclaration]
    folders: Sequence[Path]  # of datasets, predictions, releases
    online_path: Path
    warehouse_path: Path
    vectors_dir: Path  # the log of served vectors
    out_of_reach: Sequence[OutOfReach]
    refuse_if_busy: Callable[[], None]  # raises while something derives tables from others
    redis_url: str | None = field(
        default=None, repr=False
    )  # of the online store, with its password

    def names(self) -> list[str]:
        """The places, as a statement lists them."""
        return [
            self.lake.root,
            *(str(folder) for folder in self.folders),
            str(self.online_path),
            *([shown(self.redis_url)] if self.redis_url else []),
            str(self.warehouse_path),
            str(self.vectors_dir),
        ]
