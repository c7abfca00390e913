"""A load's progress as text, the same in every backend."""

import json

from scale_assets.features.stores.base import Progress, Snapshot


def progress_json(progress: Progress) -> str:
    return json.dumps(
        {
            "loaded": progress.loaded,
            "target": progress.target,
            "num_parts": progress.num_parts,
            "done": sorted(progress.done),
        }
    )


def progress_from_json(text: str | bytes | None) -> Progress:
    """The inverse of ``progress_json``; nothing was loaded where there is no text."""
    if text is None:
        return Progress()
    found = json.loads(text)
    return Progress(
        loaded=Snapshot(*found["loaded"]) if found["loaded"] else None,
        target=Snapshot(*found["target"]) if found["target"] else None,
        num_parts=found["num_parts"],
        done=frozenset(found["done"]),
    )
