"""The pages on the data side of the fit run as they are read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parents[2] / "docs" / "impact"


@pytest.mark.parametrize("page", ["moments", "clocks"])
def test_code_on_the_page_runs_in_order(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.S | re.M)
    assert len(blocks) >= 4
    namespace: dict[str, object] = {"__name__": "page"}
    for code in blocks:
        exec(compile(code, page, "exec"), namespace)
