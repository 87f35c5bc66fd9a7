"""Swagger's page without anything from elsewhere: its files come with the package fastapi-offline."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>tracemill API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div><script src="/docs/swagger-ui.js"></script><script src="/docs/start.js"></script></body></html>
"""
START = """SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, tryItOutEnabled: true});
"""


@cache
def swagger_file(name: str) -> bytes:
    """One of Swagger's own files."""
    return (files("fastapi_offline") / "static" / name).read_bytes()
