"""Delta tables: exactly-once append, atomic replacement, snapshots."""

from scale_assets.lake.commits import Commit
from scale_assets.lake.errors import ConcurrentCommit, LakeError, MissingTable, StoreFault
from scale_assets.lake.faults import fault_point
from scale_assets.lake.lake import Lake
from scale_assets.lake.s3 import S3Options

__all__ = [
    "Commit",
    "ConcurrentCommit",
    "Lake",
    "LakeError",
    "MissingTable",
    "S3Options",
    "StoreFault",
    "fault_point",
]
