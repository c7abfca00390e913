"""Autoloads the defs/ folder of the project one stands in, and binds the resources."""

import sys

import dagster as dg

from scale_assets.resources import resources
from scale_assets.settings import load_settings, project_dir


@dg.definitions
def defs() -> dg.Definitions:
    project = str(project_dir())
    if project not in sys.path:  # console scripts do not start with the working directory
        sys.path.insert(0, project)
    return dg.Definitions.merge(
        dg.load_from_defs_folder(path_within_project=project_dir()),
        dg.Definitions(resources=resources(load_settings())),
    )
