"""Writes the tables of fields into docs/records.md: `python scripts/records_page.py`."""

from __future__ import annotations

from pathlib import Path

from tracemill.core.records import RECORD_TYPES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "records.md"
BEGIN, END = "<!-- fields: begin -->", "<!-- fields: end -->"


def tables() -> str:
    """Every record with its own words and its fields."""
    sections = []
    for tag, record_type in RECORD_TYPES.items():
        about = " ".join((record_type.__doc__ or "").replace("``", "`").split())
        fields = ", ".join(f"`{name}`" for name in record_type.__struct_fields__)
        sections.append(f"## `{record_type.__name__}`\n\nTag `{tag}`. {about}\n\nFields: {fields}.\n")
    return "\n".join(sections)


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables()}\n{END}{after}", encoding="utf-8")
