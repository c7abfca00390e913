"""One person's values out of the online store, and their bytes out of its file.

Feast has no call that deletes by entity key, so it is our store's own writer that does.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from scale_assets.erasure.delta import Erased
from scale_assets.erasure.person import ErasureError, Person
from scale_assets.features.codec import key_values
from scale_assets.features.repo import ViewDeclaration
from scale_assets.features.writer import OnlineWriter


def erase_online(path: Path, views: Sequence[ViewDeclaration], person: Person) -> list[Erased]:
    """Delete every value whose entity key holds an id of theirs.

    Raises:
        ErasureError: A reader keeps what was deleted in the file's log.
    """
    if not path.is_file():
        return []
    erased = []
    with OnlineWriter(path) as writer:
        for view in views:
            keys = keys_of(writer.keys(view.name), view, person)
            with writer.transaction():
                writer.forget(view.name, keys)
            erased.append(Erased(name=f"{path.name}:{view.name}", num_rows=len(keys)))
        if not writer.wipe():
            raise ErasureError(f"{path} is being read; end `scale serve` and run again")
    return [each for each in erased if each.num_rows]


def keys_of(keys: Sequence[str], view: ViewDeclaration, person: Person) -> list[str]:
    """The keys that are theirs, as far as the view's join keys identify people."""
    names = sorted(view.join_keys)
    theirs: set[str] = set()
    for at, name in enumerate(names):
        if name in person.names:
            texts = [key_values(key, num_keys=len(names))[at] for key in keys]
            found = set(person.found_in(name, pa.array(texts, pa.string())))
            theirs |= {key for key, text in zip(keys, texts, strict=True) if text in found}
    return sorted(theirs)
