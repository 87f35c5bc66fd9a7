"""What every HTML file of tracemill has in common: one style sheet, and a security policy that allows nothing but it.

So even a mistake in the escaping of what comes from records could load and run nothing.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tracemill.drawing import wording
from tracemill.drawing.wording import visible


@cache
def page_style() -> tuple[Markup, str]:
    """The style sheet, and its hash as a content security policy names it."""
    style = files("tracemill.drawing").joinpath("templates/page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return Markup(style), f"sha256-{digest}"  # noqa: S704 - our own file, and its hash must hold


@cache
def page_environment(package: str) -> Environment:
    """Templates of a package's folder ``templates``, escaping everything, with the filters all pages use."""
    environment = Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(visible=visible_cell, count=wording.count, size=wording.size)
    return environment


def visible_cell(value: Any) -> str:
    """Any value of a record as text that cannot hide anything."""
    return visible(value if isinstance(value, str) else str(value))
