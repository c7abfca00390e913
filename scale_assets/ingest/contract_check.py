"""What the next run would make of a feed's contract, found out without writing anything."""

from dataclasses import dataclass

from scale_assets.contracts import load_contract
from scale_assets.ingest.contract_history import ContractHistory
from scale_assets.ingest.declared import DeclaredFeed
from scale_assets.lake import Lake, LakeError
from scale_assets.lake.widen import plan_evolution


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a contract may take effect, and what that does to the table."""

    feed: str
    version: str
    problems: tuple[str, ...]  # each names rule and field; none means that it may
    is_in_force: bool = False  # the table is written under it already
    added: tuple[str, ...] = ()
    widened: tuple[str, ...] = ()
    num_rows_rewritten: int = 0

    def lines(self) -> list[str]:
        """The verdict as sentences."""
        head = f"{self.feed}: contract {self.version}"
        if self.problems:
            return [f"{head} breaks what went before", *(f"- {each}" for each in self.problems)]
        if self.is_in_force:
            return [f"{head} is in force"]
        changes = [f"adds {name}" for name in self.added]
        changes += [
            f"widens {name}, rewriting {self.num_rows_rewritten:,} rows" for name in self.widened
        ]
        return [f"{head} may follow" + (f": {'; '.join(changes)}" if changes else "")]


def check_contract(lake: Lake, feed: DeclaredFeed) -> Verdict:
    """Compare a feed's contract with every one that wrote its table, and with the table."""
    contract = load_contract(feed.contract_path)
    history = ContractHistory(lake, feed.name)
    problems = [str(each) for each in history.violations(contract, feed.compatibility)]
    is_in_force = history.contracts()[-1:] == [contract]
    verdict = Verdict(
        feed=feed.name,
        version=contract.version,
        problems=tuple(problems),
        is_in_force=is_in_force,
    )
    if problems or is_in_force or not feed.has_account or not lake.exists(feed.table):
        return verdict
    try:
        plan = plan_evolution(
            feed.table, present=lake.schema(feed.table), wanted=contract.arrow_schema
        )
    except LakeError as error:
        return Verdict(feed=feed.name, version=contract.version, problems=(str(error),))
    return Verdict(
        feed=feed.name,
        version=contract.version,
        problems=(),
        added=plan.added,
        widened=plan.widened,
        num_rows_rewritten=lake.num_rows(feed.table) if plan.widened else 0,
    )
