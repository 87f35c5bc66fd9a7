"""Dataset versions for admins: what there is, what changed, what waits; proposals and decisions about them.

A version may hold records of every platform, so a key that is bound to a project reaches none of this.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from msgspec import Struct

from tracemill.core.errors import DatasetError
from tracemill.dataset.recipe import Recipe, parse_recipe
from tracemill.dataset.version import Version
from tracemill.server.access import needs
from tracemill.server.bodies import decode_as, read_body
from tracemill.server.context import Context, Principal, context_of
from tracemill.server.errors import ApiError
from tracemill.workspace.describing import states, version_history
from tracemill.workspace.proposing import Proposed

router = APIRouter(tags=["datasets"])


class Proposing(Struct, frozen=True, forbid_unknown_fields=True):
    """A recipe to build a version by, as a recipe file writes it."""

    recipe: dict[str, Any] = {}


class Approving(Struct, frozen=True, forbid_unknown_fields=True):
    """Why, and whether although a gate does not hold."""

    reason: str = ""
    override: bool = False


class Refusing(Struct, frozen=True, forbid_unknown_fields=True):
    """Why."""

    reason: str


class RollingBack(Struct, frozen=True, forbid_unknown_fields=True):
    """Which version is to be the current one (``v2``), and why."""

    to: str
    reason: str = ""


def _body(kind: type[Any]) -> dict[str, Any]:
    (schema,), components = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    inner = components.get(kind.__name__, schema)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inner}}}}


@router.get("/v1/datasets", summary="List dataset versions")
async def list_versions(
    request: Request,
    principal: Annotated[Principal, needs("admin")],
    name: Annotated[str | None, Query(description="Only versions of this dataset.")] = None,
) -> Response:
    """Every version with its rows, whether it is the current one, waits, or lost its rows to an erasure."""
    context = _whole(request, principal)

    def listed() -> list[dict[str, Any]]:
        return [_plain(version, state) for version, state in states(context.workspace.datasets(name))]

    return _answer({"data": await context.run(listed)})


@router.get("/v1/datasets/{name}/history", summary="What each version of a dataset changed")
async def history(request: Request, name: str, principal: Annotated[Principal, needs("admin")]) -> Response:
    """The versions, oldest first, with rows added, dropped and moved since the one before."""
    context = _whole(request, principal)
    entries = await context.run(version_history, context.workspace, name)
    if not entries:
        raise ApiError(404, "not_found", "there is no such dataset", param="name")
    return _answer({"data": entries})


@router.get("/v1/datasets/{name}/diff", summary="What changed between two versions")
async def diff(
    request: Request,
    name: str,
    principal: Annotated[Principal, needs("admin")],
    before: Annotated[str, Query(description="The earlier version: v1.")],
    after: Annotated[str | None, Query(description="The later version; by default the current one.")] = None,
) -> Response:
    """Rows by type and reason, splits, recipe, numbers."""
    context = _whole(request, principal)

    def compared() -> Any:
        workspace = context.workspace
        one = workspace.dataset(f"{name}@{before}")
        other = workspace.dataset(name if after is None else f"{name}@{after}")
        return msgspec.to_builtins(workspace.proposing.compare(one, other))

    return _answer(await context.run(compared))


@router.post("/v1/datasets/proposals", summary="Propose a dataset version", openapi_extra=_body(Proposing))
async def propose(request: Request, principal: Annotated[Principal, needs("admin")]) -> Response:
    """Build a version that waits for approval, and check its gates; answers when it is built.

    Steps and features of one's own (`module:name`) are code, and are taken from recipe files only.
    409 when nothing would change.
    """
    context = _whole(request, principal)
    recipe = _recipe(decode_as(await read_body(request), Proposing).recipe)
    done = await context.run(partial(context.workspace.propose_dataset, recipe, actor=principal.name))
    return _answer(_proposed(done), 201)


@router.post("/v1/datasets/{name}/{version}/approve", summary="Approve a version", openapi_extra=_body(Approving))
async def approve(
    request: Request, name: str, version: str, principal: Annotated[Principal, needs("admin")]
) -> Response:
    """Make a version that waits the current one. 409 when a gate does not hold, or it was decided already."""
    context = _whole(request, principal)
    asked = decode_as(await read_body(request), Approving)
    decide = partial(
        context.workspace.proposing.approve,
        f"{name}@{version}",
        actor=principal.name,
        reason=asked.reason,
        override=asked.override,
    )
    return _answer(_proposed(await context.run(decide)))


@router.post("/v1/datasets/{name}/{version}/refuse", summary="Refuse a version", openapi_extra=_body(Refusing))
async def refuse(
    request: Request, name: str, version: str, principal: Annotated[Principal, needs("admin")]
) -> Response:
    """Refuse a version that waits. It stays, and is never the current one."""
    context = _whole(request, principal)
    asked = decode_as(await read_body(request), Refusing)
    decide = partial(context.workspace.proposing.refuse, f"{name}@{version}", actor=principal.name, reason=asked.reason)
    return _answer(_proposed(await context.run(decide)))


@router.post("/v1/datasets/{name}/rollback", summary="Make another version current", openapi_extra=_body(RollingBack))
async def rollback(request: Request, name: str, principal: Annotated[Principal, needs("admin")]) -> Response:
    """Make a version that was current or approved before the current one again. Nothing is removed."""
    context = _whole(request, principal)
    asked = decode_as(await read_body(request), RollingBack)
    change = partial(context.workspace.proposing.rollback, name, asked.to, actor=principal.name, reason=asked.reason)
    return _answer({"current": (await context.run(change)).reference})


def _whole(request: Request, principal: Principal) -> Context:
    """The context, for somebody who may see every platform. Raises ApiError (403)."""
    if principal.project is not None:
        raise ApiError(403, "wrong_project", "a dataset holds records of every project, and the key is bound to one")
    return context_of(request)


def _recipe(content: dict[str, Any]) -> Recipe:
    for key, what in (("steps", "step"), ("features", "feature")):
        entries = content.get(key)
        named = (
            [next(iter(entry), "") if isinstance(entry, dict) else entry for entry in entries]
            if isinstance(entries, list)
            else []
        )
        if any(isinstance(name, str) and ":" in name for name in named):
            raise ApiError(
                422,
                "invalid",
                f"a {what} of one's own is code, and is not taken over the network",
                hint="Put the recipe into a file and use `tracemill dataset propose`.",
                param=f"recipe.{key}",
            )
    return parse_recipe(content)


def _plain(version: Version, state: dict[str, Any]) -> dict[str, Any]:
    manifest = version.manifest
    try:
        built = version.build_record().built.isoformat()
    except DatasetError:
        built = None
    return {
        "reference": version.reference,
        "name": version.name,
        "version": version.path.name,
        "built": built,
        "rows": version.count(),
        "examples": manifest.examples,
        "records_read": manifest.records_read,
        "recipe_hash": manifest.recipe_hash,
        "documents": [file.path for file in manifest.documents],
        **{name: state[name] for name in ("current", "proposal", "tombstone")},
    }


def _proposed(done: Proposed) -> dict[str, Any]:
    return {
        "reference": done.version.reference,
        "proposal": msgspec.to_builtins(done.proposal),
        "changes": None if done.changes is None else msgspec.to_builtins(done.changes),
    }


def _answer(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
