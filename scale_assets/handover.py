"""Hands a secret to a child process, out of its command line, which everybody can read."""

import os

from scale_assets.settings import Settings


def through_pipe(document: str) -> str:
    """A path that the child can read the document from, once.

    Start it with descriptors left open: ``os.exec*``, or ``Popen(..., close_fds=False)``.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)  # a document larger than a pipe fails here, it does not hang
    os.write(writing, document.encode())
    os.close(writing)
    os.set_inheritable(reading, True)
    return f"/dev/fd/{reading}"


def vector_options(settings: Settings, *, sample: float) -> list[str]:
    """The options of serving/vector_sample.py."""
    return [
        *("--vectors", str(settings.vectors_dir), "--sample-vectors", str(sample)),
        *("--vectors-mib", str(settings.vectors_mib)),
        *("--vectors-days", str(settings.vectors_days)),
    ]


def online_store_options(settings: Settings) -> list[str]:
    """The options of serving/online_store.py."""
    clock = ["--clock", settings.online_store_clock]
    if settings.online_store_url is None:
        return ["--online-store", settings.online_store, *clock]
    return ["--online-store-from", through_pipe(settings.online_store), *clock]
