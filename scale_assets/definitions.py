"""Autoloads the defs/ folder of the project one stands in, and binds the resources."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from scale_assets.settings import load_settings, project_dir


@dg.definitions
def defs() -> dg.Definitions:
    project = str(project_dir())
    if project not in sys.path:  # console scripts do not start with the working directory
        sys.path.insert(0, project)
    settings = load_settings()
    with _sparing_the_collector():
        from scale_assets.resources import resources  # with Arrow and Delta

        return dg.Definitions.merge(
            _declared(is_described=settings.describe_vocabulary),
            dg.Definitions(resources=resources(settings)),
        )


def _declared(*, is_described: bool) -> dg.Definitions:
    """What the YAML files and modules under defs/ declare.

    Dagster's own loader also imports every package that registers components, ours or not, to
    show their fields in its UI. That doubles the loading time, so only the UI's processes do it.
    """
    if is_described:
        return dg.load_from_defs_folder(path_within_project=project_dir())
    tree = dg.ComponentTree.for_project(project_dir())
    return dg.Definitions.merge(tree.build_defs("."), dg.Definitions(component_tree=tree))


@contextmanager
def _sparing_the_collector() -> Iterator[None]:
    """Keep the garbage collector from walking what imports have made, again and again."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
