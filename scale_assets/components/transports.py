"""How records arrive, as YAML says it: one class per transport, chosen by ``type``."""

from pathlib import Path
from typing import Literal, TypeAlias

import dagster as dg
from pydantic import Field

from scale_assets.ingest.file_source import FilesSource
from scale_assets.settings import Settings


class FilesTransport(dg.Resolvable, dg.Model):
    """JSON-lines files, plain or gzipped, that a source drops into one folder."""

    type: Literal["files"] = Field(description="How the rows arrive; 'files' is a folder.")
    path: str = Field(
        description="The folder, relative to the feeds folder of the settings; absolute is kept.",
        examples=["clicks"],
    )

    def folder(self, settings: Settings) -> Path:
        return settings.feeds_dir / self.path

    def source(self, settings: Settings) -> FilesSource:
        return FilesSource(self.folder(settings))


Transport: TypeAlias = FilesTransport
