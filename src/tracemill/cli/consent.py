"""Commands about what people allow."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from tracemill.cli.opening import Folder, Json, open_workspace, options_of
from tracemill.cli.output import emit_json, say, table
from tracemill.core.errors import SettingError
from tracemill.core.records import Purpose

Person = Annotated[str, typer.Argument(metavar="USER", help="A person: your application's id, or the pseudonym.")]
PurposeName = Annotated[str, typer.Argument(metavar="PURPOSE", help="store, evaluate, train or share.")]
Platform = Annotated[str | None, typer.Option(help="On this platform alone (default: on all of them).")]
Basis = Annotated[str | None, typer.Option(help="Where it was said: a form, a letter, a contract.")]
PolicyVersion = Annotated[str | None, typer.Option(help="Version of the privacy policy it was said to.")]


def show(context: typer.Context, user: Person, workspace: Folder = None, json: Json = False) -> None:
    """Show what holds for a person: every purpose, since when and by which record, or by default."""
    from tracemill.privacy.consent import plain_of

    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        person = opened.person(user).pseudonym
        found = opened.consenting.standing(person)
    if options.json:
        emit_json({"user": person, "consents": [plain_of(one) for one in found]})
        return
    rows = [
        [
            one.purpose,
            one.platform or "all",
            "granted" if one.granted else "denied",
            "by default" if one.since is None else one.since.isoformat(timespec="seconds"),
            "erased" if one.erased else one.record or "",
        ]
        for one in found
    ]
    table(options, "", ["purpose", "platform", "state", "since", "record"], rows)


def grant(
    context: typer.Context,
    user: Person,
    purpose: PurposeName,
    platform: Platform = None,
    basis: Basis = None,
    policy_version: PolicyVersion = None,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Store that a person allows a purpose."""
    _say(context, user, purpose, True, platform, basis, policy_version, workspace, json)


def withdraw(
    context: typer.Context,
    user: Person,
    purpose: PurposeName,
    platform: Platform = None,
    basis: Basis = None,
    policy_version: PolicyVersion = None,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Store that a person allows a purpose no more. New versions and exports go by it at once.

    What is stored already stays until `tracemill erase --user`; rows in versions and exports of before stay there.
    """
    _say(context, user, purpose, False, platform, basis, policy_version, workspace, json)


def _say(
    context: typer.Context,
    user: str,
    purpose: str,
    granted: bool,
    platform: str | None,
    basis: str | None,
    policy_version: str | None,
    workspace: str | None,
    json: bool,
) -> None:
    from tracemill.workspace import local_actor

    options = options_of(context, workspace, json)
    try:
        chosen = msgspec.convert(purpose, Purpose)
    except msgspec.ValidationError:
        raise SettingError(f"there is no purpose {purpose!r}", hint="store, evaluate, train or share.") from None
    with open_workspace(options) as opened:
        record = opened.consenting.say(
            opened.person(user),
            chosen,
            granted=granted,
            actor=local_actor(),
            platform=platform,
            basis=basis,
            policy_version=policy_version,
            source="cli",
        )
    verb = "granted" if granted else "withdrawn"
    if options.json:
        emit_json({"consent": record.id, "purpose": chosen, "granted": granted, "platform": platform})
    say(options, f"{chosen} is {verb} for this person{f' on {platform}' if platform else ''}: {record.id}")


def list_(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Count who said what: people by purpose, platform and verdict. Names nobody."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        found = opened.consenting.counts()
        defaults = {purpose: opened.consenting.default(purpose) for purpose in ("store", "evaluate", "train", "share")}
    if options.json:
        rows = [
            {"purpose": purpose, "platform": platform or None, "granted": granted, "denied": denied}
            for purpose, platform, granted, denied in found
        ]
        emit_json({"said": rows, "defaults": defaults})
        return
    if found:
        shown = [[purpose, platform or "all", granted, denied] for purpose, platform, granted, denied in found]
        table(options, "", ["purpose", "platform", "people granted", "people denied"], shown)
    else:
        say(options, "Nobody said anything yet.")
    say(options, "By default: " + ", ".join(f"{purpose} {state}" for purpose, state in defaults.items()) + ".")
