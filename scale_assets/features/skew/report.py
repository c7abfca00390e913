"""What a comparison of served vectors with the lake came to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Example:
    """One value that disagrees; texts are masked, and the line says whose it is."""

    place: str  # file and line of the log
    version: str  # of the model that was served with it
    verdict: str
    served: str | None
    lake: str | None


@dataclass(frozen=True, kw_only=True)
class FeatureSkew:
    """Verdicts on one feature, in vectors."""

    name: str  # view.feature
    equal: int
    different: int
    missing: int  # the lake has a value, none was served
    extra: int  # a value was served, the lake has none
    examples: Sequence[Example] = ()

    @property
    def num_compared(self) -> int:
        return self.equal + self.num_disagreeing

    @property
    def num_disagreeing(self) -> int:
        return self.different + self.missing + self.extra

    @property
    def share(self) -> float:
        """Of the compared values, those that disagree."""
        return self.num_disagreeing / self.num_compared if self.num_compared else 0.0

    def sentence(self) -> str:
        found = {"different": self.different, "missing": self.missing, "extra": self.extra}
        said = ", ".join(f"{number:,} {verdict}" for verdict, number in found.items() if number)
        return f"{self.name} {self.share:.2%} ({said} of {self.num_compared:,})"


@dataclass(frozen=True, kw_only=True)
class SkewReport:
    """Features in the order of their views; counts are vectors."""

    num_vectors: int = 0
    first_served: datetime | None = None
    last_served: datetime | None = None
    versions: Mapping[str, int] = field(default_factory=dict)
    features: Sequence[FeatureSkew] = ()
    not_compared: Mapping[str, int] = field(default_factory=dict)
    """By input: the service has no such feature now, so only older releases were served it."""
    other_layouts: Mapping[str, int] = field(default_factory=dict)
    """By view: read from values that were written with another layout than the present one."""
    not_told: Mapping[str, int] = field(default_factory=dict)
    """By view: its table has since replaced the row, and the version that had it is gone."""
    num_torn_lines: int = 0

    def over(self, budget: float) -> list[FeatureSkew]:
        """Features that disagree more often than allowed, the worst first."""
        found = [each for each in self.features if each.share > budget]
        return sorted(found, key=lambda each: -each.share)
