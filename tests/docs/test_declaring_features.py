"""docs/guides/declaring-features.md as written: its files declare the view that it says."""

import re
import shutil
from datetime import timedelta
from pathlib import Path

from scale_assets.features.repo import read_repo

ROOT = Path(__file__).resolve().parents[2]
FILE = re.compile(r"^`(?P<file>[^`\n]+)`:\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def test_its_files_declare_a_view_and_a_service(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "guides" / "declaring-features.md").read_text()
    for match in FILE.finditer(guide):
        path = tmp_path / match["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(match["text"])
    (tmp_path / "warehouse" / "dbt_project.yml").write_text("name: warehouse\n")
    (tmp_path / "feature_repo" / "feature_store.yaml").write_text("project: shop\n")
    shutil.copy(ROOT / "feature_repo" / "dbt_views.py", tmp_path / "feature_repo")

    (view,) = read_repo(tmp_path / "feature_repo").service("churn_v1")

    assert (view.name, view.join_keys, view.ttl) == (
        "customer_spending",
        ("customer",),
        timedelta(days=7),
    )
    assert view.columns == (("cents_7d", "int64"),)
