"""`scale check`: whether the contracts as they stand may follow those that wrote the tables."""

from collections.abc import Sequence

from scale_assets.components.feed_assets import declared_feeds
from scale_assets.console import Console
from scale_assets.errors import ScaleError
from scale_assets.ingest.contract_check import check_contract
from scale_assets.lake import Lake
from scale_assets.settings import Settings


class BreakingContracts(ScaleError):
    """Some contracts would stop their feed's next run."""


def check_contracts(settings: Settings, names: Sequence[str], console: Console) -> None:
    """Print a verdict per feed; nothing is written.

    Raises:
        BreakingContracts: A contract may not follow, or no feed has one of the names.
    """
    from scale_assets.definitions import defs

    feeds = {feed.name: feed for feed in declared_feeds(defs())}
    unknown = sorted(set(names) - feeds.keys())
    if unknown:
        raise BreakingContracts(f"no feed is named {unknown}; there are {sorted(feeds)}")
    lake = Lake(settings.lake_dir, s3=settings.s3)
    verdicts = [check_contract(lake, feeds[name]) for name in names or feeds]
    for verdict in verdicts:
        for line in verdict.lines():
            console.line(line)
    breaking = [verdict.feed for verdict in verdicts if verdict.problems]
    if breaking:
        raise BreakingContracts(
            f"{', '.join(breaking)}: mend the contract, or choose another `compatibility` for it"
        )
