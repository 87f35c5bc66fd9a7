"""What a person allows: asked, granted, withdrawn."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from msgspec import Struct

from tracemill.core.records import Purpose, User
from tracemill.privacy.consent import plain_of
from tracemill.server.access import needs
from tracemill.server.bodies import decode_as, read_body
from tracemill.server.context import Context, Principal, context_of
from tracemill.server.errors import ApiError

router = APIRouter(tags=["consent"])


class ConsentSubmission(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person allows or withdraws. ``user`` is the id the application knows, for programs that speak for others."""

    purpose: Purpose
    granted: bool
    user: str | None = None
    platform: str | None = None
    basis: str | None = None
    policy_version: str | None = None


def _schema() -> dict[str, Any]:
    (schema,), components = msgspec.json.schema_components([ConsentSubmission], ref_template="{name}")
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": components.get("ConsentSubmission", schema)}},
        }
    }


@router.get("/v1/consent", summary="Ask what a person allows")
async def consents(
    request: Request,
    principal: Annotated[Principal, needs("user", "ingest")],
    user: Annotated[str | None, Query(description="A person's id; one's own without it.")] = None,
) -> dict[str, Any]:
    """Every purpose with what holds for it, since when, and by which record; or the default."""
    context = context_of(request)
    person = await _person(context, principal, user)
    found = await context.run(context.workspace.consenting.standing, person.pseudonym)
    return {"consents": [plain_of(one) for one in found]}


@router.post("/v1/consent", summary="Allow or withdraw a purpose", openapi_extra=_schema())
async def say(request: Request, principal: Annotated[Principal, needs("user", "ingest")]) -> dict[str, Any]:
    """Stored before it is answered. What is built or exported from then on goes by it; what is stored already is removed
    by erasure only.

    A person speaks for themselves; a key that may ingest names the `user`.
    """
    context = context_of(request)
    said = decode_as(await read_body(request), ConsentSubmission)
    if principal.project is not None and said.platform not in (None, principal.project):
        raise ApiError(403, "wrong_project", "the key is bound to another project", param="platform")
    person = await _person(context, principal, said.user)
    record = await context.run(
        partial(
            context.workspace.consenting.say,
            person,
            said.purpose,
            granted=said.granted,
            actor=principal.name,
            platform=said.platform or principal.project,
            basis=said.basis,
            policy_version=said.policy_version,
            source="api",
        )
    )
    return {"consent_id": record.id, "status": "stored"}


async def _person(context: Context, principal: Principal, named: str | None) -> User:
    """Whose consent it is. Raises ApiError: 403 where a person names another, 422 where a program names nobody."""
    if named is not None:
        person = await context.run(context.workspace.person, named)
        own = principal.user is not None and principal.user.pseudonym == person.pseudonym
        if own or (principal.user is None and principal.can("ingest")) or principal.can("admin"):
            return person
        raise ApiError(403, "not_you", "a person speaks for themselves", param="user")
    if principal.user is None:
        raise ApiError(422, "invalid", "the key belongs to no person: say whose consent it is", param="user")
    return principal.user
