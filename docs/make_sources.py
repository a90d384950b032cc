"""Puts the tables of a folder of `deice bench sources` into docs/benchmarks/sources.md: make_sources.py DIR [PAGE]."""

import re
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "benchmarks" / "sources.md"


def filled(page: str, tables: dict[str, str]) -> str:
    """`page` with each table between its two marks; a mark without a table stays as it is."""
    for name, text in tables.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        assert marks.search(page), f"the page has no marks for {name}"
        page = marks.sub(lambda found, text=text: f"{found[1]}{text.strip()}\n{found[2]}", page)
    return page


if __name__ == "__main__":
    found = {path.stem: path.read_text(encoding="utf-8") for path in Path(sys.argv[1], "tables").glob("*.md")}
    page = PAGE.with_name(sys.argv[2]) if len(sys.argv) > 2 else PAGE
    page.write_text(filled(page.read_text(encoding="utf-8"), found), encoding="utf-8")
