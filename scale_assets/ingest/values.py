"""What the bytes of a record are, and how they become the JSON that contracts validate."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

# A record without a value: a tombstone in a change feed, refused in an event stream. Validation
# passes over blank lines uncounted, so that a blank value is written as this one, too.
NULL = b"null"
BLANK = b" \t\r\n"


class ValueFormat(ABC):
    """Turns values into lines of JSON, one each, in order."""

    @abstractmethod
    def lines(self, values: Sequence[bytes | None]) -> tuple[list[bytes], Mapping[int, str]]:
        """The lines, and why some (by index) are left as they came: they cannot be read.

        Raises:
            SourceUnavailable: What is needed to read them does not answer.
        """


class JsonValues(ValueFormat):
    """Values that are JSON already."""

    def lines(self, values: Sequence[bytes | None]) -> tuple[list[bytes], Mapping[int, str]]:
        return [value if value and value.strip(BLANK) else NULL for value in values], {}
