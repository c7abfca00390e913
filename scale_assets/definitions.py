"""Autoloads the defs/ folder of the project one stands in, and binds the resources."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scale_assets.settings import load_settings, project_dir


@contextmanager
def _resting_collector() -> Iterator[None]:
    """Nearly all that loading makes stays: the collector would walk it again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


with _resting_collector():
    import dagster as dg

    gc.freeze()  # modules stay for good: no later collection need look at them either


@dg.definitions
def defs() -> dg.Definitions:
    project = str(project_dir())
    if project not in sys.path:  # console scripts do not start with the working directory
        sys.path.insert(0, project)
    settings = load_settings()
    with _resting_collector():
        from scale_assets.components.columns import all_specs, check_columns
        from scale_assets.resources import resources

        declared = _declared(is_described=settings.describe_vocabulary)
        check_columns(all_specs(declared), root=project_dir())
        return dg.Definitions.merge(declared, dg.Definitions(resources=resources(settings)))


def _declared(*, is_described: bool) -> dg.Definitions:
    """What the YAML files and modules under defs/ declare.

    Dagster's own loader also imports every package that registers components, ours or not, to
    show their fields in its UI. That doubles the loading time, so only the UI's processes do it.
    """
    from scale_assets.declarations import explained

    tree = dg.ComponentTree.for_project(project_dir())
    with explained(Path(str(tree.defs_module.__path__[0]))):
        if is_described:
            return dg.load_from_defs_folder(path_within_project=project_dir())
        return dg.Definitions.merge(tree.build_defs("."), dg.Definitions(component_tree=tree))
