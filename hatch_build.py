"""Hatchling's hook: the C reader of lines is built into the wheel, where there is a compiler."""

import runpy
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILDER = Path("scale_assets/contracts/native/build.py")


class NativeReaderHook(BuildHookInterface):
    """Without a compiler the wheel is pure Python, and reads lines with pyarrow alone."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        library = runpy.run_path(str(Path(self.root, BUILDER)))["build"]()
        if library is None:
            self.app.display_warning("no C compiler: lines will be read without the C reader")
            return
        build_data["artifacts"].append(library.relative_to(self.root).as_posix())
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
