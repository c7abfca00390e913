"""What an erasure came to, for the person and for whoever audits: as JSON and as Markdown."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from scale_assets.erasure.check import Checked
from scale_assets.erasure.delta import Erased
from scale_assets.erasure.scope import OutOfReach


@dataclass(frozen=True, kw_only=True)
class Statement:
    """Names no id: ``request`` is the digest under which the person is on the suppression list."""

    request: str
    subject: str
    finished_at: str
    scope: Sequence[str]
    erased: Sequence[Erased]
    checked: Checked
    out_of_reach: Sequence[OutOfReach]

    def markdown(self) -> str:
        """The same for people to read."""
        rows = [
            f"| {e.name} | {e.num_rows} | {e.num_files_rewritten} | {e.num_files_deleted} |"
            for e in self.erased
        ]
        found = [f"- {each.path}: {each.where}" for each in self.checked.residues]
        beyond = [f"- **{each.what}** ({each.where}): {each.todo}" for each in self.out_of_reach]
        verdict = "nothing of the person" if not found else "STILL THERE"
        return "\n".join(
            [
                f"# Erasure of one {self.subject}",
                "",
                f"Request {self.request}, finished {self.finished_at}.",
                "",
                "| table or file | rows removed | files rewritten | old files deleted |",
                "|---|---:|---:|---:|",
                *rows,
                "",
                "## Check",
                "",
                f"{self.checked.num_files} files, {self.checked.num_bytes} bytes: {verdict}. In:",
                "",
                *(f"- {place}" for place in self.scope),
                *found,
                "",
                "## Out of reach",
                "",
                *beyond,
                "",
            ]
        )

    def write(self, folder: Path) -> list[Path]:
        """Write both files; their names are the time and the request."""
        folder.mkdir(parents=True, exist_ok=True)
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        base = folder / f"{moment}-{self.request[:12]}"
        as_json, as_text = base.with_suffix(".json"), base.with_suffix(".md")
        as_json.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        as_text.write_text(self.markdown(), encoding="utf-8")
        return [as_json, as_text]
