"""Delta tables: exactly-once append, atomic replacement, snapshots."""

from scale_assets.lake.commits import Commit
from scale_assets.lake.errors import ConcurrentCommit, LakeError, MissingTable
from scale_assets.lake.faults import fault_point
from scale_assets.lake.lake import Lake

__all__ = ["Commit", "ConcurrentCommit", "Lake", "LakeError", "MissingTable", "fault_point"]
