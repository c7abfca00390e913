"""One person's values out of the online store, and their bytes out of its file or its memory.

Feast has no call that deletes by entity key, so it is our store's own writer that does.
"""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from scale_assets.erasure.delta import Erased
from scale_assets.erasure.person import ErasureError, Person
from scale_assets.features.codec import key_values
from scale_assets.features.repo import ViewDeclaration
from scale_assets.features.stores import OnlineStoreError, open_backend


def erase_online(
    store: Path | str, views: Sequence[ViewDeclaration], person: Person
) -> list[Erased]:
    """Delete every value whose entity key holds an id of theirs, from a file or a Redis.

    Raises:
        ErasureError: The store does not answer, or a reader keeps what was deleted in its log.
    """
    if isinstance(store, Path) and not store.is_file():
        return []
    erased = []
    try:
        with open_backend(store) as backend:
            place = store.name if isinstance(store, Path) else backend.where
            for view in views:
                keys = [key for some in backend.keys(view.name) for key in some]
                theirs = keys_of(keys, view, person)
                num_rows = backend.forget(view.name, theirs) if theirs else 0
                erased.append(Erased(name=f"{place}:{view.name}", num_rows=num_rows))
            backend.wipe()
    except OnlineStoreError as error:
        raise ErasureError(str(error)) from error
    return [each for each in erased if each.num_rows]


def found_online(
    url: str, views: Sequence[ViewDeclaration], person: Person
) -> tuple[str, int, list[str]]:
    """What a Redis still has of them: its name, how many bytes were searched, and where they are.

    Raises:
        ErasureError: It does not answer.
    """
    declared = {view.name: view for view in views}
    num_bytes, found = 0, []
    try:
        with open_backend(url) as backend:
            for name in backend.views():
                for keys in backend.keys(name):
                    values = backend.get({name: keys}).values[name]
                    texts = [
                        key.encode() + (value or b"")
                        for key, value in zip(keys, values, strict=True)
                    ]
                    num_bytes += sum(map(len, texts))
                    if _speak_of(keys, texts, declared.get(name), person):
                        found.append(f"view {name}")
            return backend.where, num_bytes, list(dict.fromkeys(found))
    except OnlineStoreError as error:
        raise ErasureError(str(error)) from error


def _speak_of(
    keys: Sequence[str], texts: Sequence[bytes], view: ViewDeclaration | None, person: Person
) -> bool:
    pattern = person.pattern
    if view is not None and keys_of(keys, view, person):
        return True
    return pattern is not None and any(pattern.search(text) for text in texts)


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
