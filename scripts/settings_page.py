"""Writes docs/settings.md from the one table of settings: `python scripts/settings_page.py`."""

from __future__ import annotations

from pathlib import Path

from tracemill.core.settings import SettingInfo, setting_table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
INTRODUCTION = """# Settings

Every setting is looked for in this order; the first one found holds:

1. an argument of the call or command,
2. the environment: `TRACEMILL_<NAME>`, or the older name beside it,
3. `tracemill.yaml` in the working directory, or the file that `TRACEMILL_CONFIG` names,
4. the default.

A value that cannot be used is an error that names the setting and where it was set; so is a setting nobody knows.
`tracemill settings` prints the values in force and where each comes from.

```yaml
# tracemill.yaml
workspace: /var/lib/tracemill
platform: support
durability: power
```

Sizes are in bytes and times in the unit the name says.

| setting | type | default | environment | meaning |
| --- | --- | --- | --- | --- |
"""


def row(setting: SettingInfo) -> str:
    """One line of the table."""
    variables = ", ".join(f"`{name}`" for name in setting.environment)
    default = f"`{setting.default}`" if setting.default != "" else "(empty)"
    meaning = setting.description.replace("|", "\\|")
    kind = setting.type.replace("|", "\\|")
    return f"| `{setting.name}` | {kind} | {default} | {variables} | {meaning} |"


def page() -> str:
    """The whole page."""
    return INTRODUCTION + "\n".join(row(setting) for setting in setting_table()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
