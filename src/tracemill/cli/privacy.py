"""Commands that erase, hold back, hand out and account for: what people have a right to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import msgspec
import typer

from tracemill.cli.opening import Folder, Json, open_workspace, options_of
from tracemill.cli.output import Options, emit_json, gentle_progress, say, table
from tracemill.core.erasure import HoldKind, LegalHold, Receipt, SubjectKind
from tracemill.core.errors import SettingError
from tracemill.core.ids import from_microseconds

if TYPE_CHECKING:
    from tracemill.workspace import Workspace

User = Annotated[str | None, typer.Option(help="A person: the id your application uses, or the pseudonym.")]
Conversation = Annotated[str | None, typer.Option(help="A conversation's id.")]
InteractionId = Annotated[str | None, typer.Option("--interaction", help="An interaction's id.")]


def erase(
    context: typer.Context,
    user: User = None,
    interaction: InteractionId = None,
    conversation: Conversation = None,
    reason: Annotated[str, typer.Option(help="Why: kept in the receipt and in the audit log.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Erase a person, a conversation or an interaction from every store, and print the signed receipt.

    Records, archive, spool, quarantine, files beside them, dataset versions and exports; tombstones keep it out for good.
    Exit code 1 when a legal hold defers it.
    """
    kind, value = _one(user=user, interaction=interaction, conversation=conversation)
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        if dry_run:
            _preview(options, opened, kind, value)
            return
        with gentle_progress(options) as shown:
            receipt = opened.erase(kind, value, reason=reason, progress=shown)
        path = opened.receipts_path / f"{receipt.id}.json"
        rebuilt = opened.rebuilt(receipt)
    if options.json:
        emit_json({**msgspec.to_builtins(receipt), "rebuilt": rebuilt})
    else:
        _show_receipt(options, receipt, rebuilt, path)
    if receipt.status == "deferred":
        raise typer.Exit(1)


def _one(**given: str | None) -> tuple[SubjectKind, str]:
    named = [(kind, value) for kind, value in given.items() if value]
    if len(named) != 1:
        raise SettingError("name one subject", hint="Give exactly one of --user, --interaction and --conversation.")
    kind, value = named[0]
    return msgspec.convert(kind, SubjectKind), value


def _preview(options: Options, opened: Workspace, kind: SubjectKind, value: str) -> None:
    found, places = opened.preview_erasure(kind, value)
    if options.json:
        emit_json({"dry_run": True, "records": found.types, "others": found.others, "places": places})
        return
    if not any(places.values()) and not found.ids:
        say(options, "Nothing of it is stored here.")
        return
    rows = [[name, number] for name, number in found.types.items()]
    table(options, "Would remove", ["type", "records"], rows)
    rows = [[name, number] for name, number in places.items() if number and name != "records"]
    if rows:
        table(options, "And in", ["place", "things"], rows)
    if found.others:
        say(options, f"{found.others:,} records of other people in shared conversations would stay.")


def _show_receipt(options: Options, receipt: Receipt, rebuilt: dict[str, str], path: Path) -> None:
    if receipt.status == "deferred":
        say(options, f"Legal hold {receipt.hold} defers this erasure (request {receipt.id}). Nothing was removed.")
        say(options, "Once the hold is released, `tracemill maintain` carries it out.")
        return
    total = sum(receipt.records.values())
    say(options, f"Erased {total:,} records. Every store was searched again: nothing of it is left.")
    rows = [
        [place.place, ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in place.removed.items())]
        for place in receipt.places
        if place.removed
    ]
    if rows:
        table(options, "", ["place", "removed"], rows)
    for note in dict.fromkeys(note for place in receipt.places for note in place.notes):
        if not note.startswith(("model ", "dataset ")):
            say(options, f"  {note}")
    for name, other in rebuilt.items():
        say(
            options,
            f"  dataset {name} lost its rows; {f'{other} was built instead' if other else 'it was not built again'}",
        )
    for model in receipt.tainted_models:
        say(options, f"  model {model} was trained on some of it")
    say(options, f"Receipt {receipt.id}, signed with key {receipt.key_id}: {path}")


def receipt(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A receipt, as JSON.")],
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Check the signature of an erasure receipt with this workspace's key. Exit code 1 when it does not hold."""
    options = options_of(context, workspace, json)
    try:
        found = msgspec.json.decode(file.read_bytes(), type=Receipt)
    except OSError as error:
        raise SettingError(f"{file} cannot be read: {error}") from error
    except msgspec.MsgspecError as error:
        raise SettingError(f"{file} is no receipt: {error}") from error
    with open_workspace(options) as opened:
        holds = opened.receipt_holds(found)
    if options.json:
        emit_json({"id": found.id, "holds": holds, "complete": found.complete})
    say(options, f"Receipt {found.id}: the signature {'holds' if holds else 'does NOT hold'}.")
    if not holds:
        raise typer.Exit(1)


def export_user(
    context: typer.Context,
    user: Annotated[str, typer.Argument(metavar="ID", help="A person: your application's id, or the pseudonym.")],
    to: Annotated[Path | None, typer.Option(help="File to write (default: standard output).")] = None,
    workspace: Folder = None,
) -> None:
    """Give a person their data: every record that belongs to them, as JSON lines, oldest first, from both tiers."""
    from tracemill.core.codec import encode_json

    options = options_of(context, workspace)
    with open_workspace(options) as opened:
        number = 0
        if to is None:
            for record in opened.export_person(user):
                sys.stdout.buffer.write(encode_json(record) + b"\n")
            sys.stdout.flush()
            return
        draft = to.with_name(f".{to.name}.part")
        try:
            with draft.open("wb") as file:
                draft.chmod(0o600)
                for record in opened.export_person(user):
                    file.write(encode_json(record) + b"\n")
                    number += 1
            draft.replace(to)
        finally:
            draft.unlink(missing_ok=True)
    say(options, f"Wrote {number:,} records to {to}. It is a copy: erasure does not reach it.")


def hold_place(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Why: a case number, a court order.")],
    user: User = None,
    interaction: InteractionId = None,
    conversation: Conversation = None,
    platform: Annotated[str | None, typer.Option(help="Everything of a platform.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything there is.")] = False,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Forbid the erasure and removal of something until the hold is released."""
    given = {"user": user, "interaction": interaction, "conversation": conversation, "platform": platform}
    named = [(kind, value) for kind, value in given.items() if value] + ([("all", "")] if everything else [])
    if len(named) != 1:
        raise SettingError(
            "name what to hold", hint=f"Give exactly one of --{', --'.join(str(kind) for kind in get_args(HoldKind))}."
        )
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        hold = opened.place_hold(msgspec.convert(named[0][0], HoldKind), named[0][1], reason=reason)
    if options.json:
        emit_json(_hold(hold))
    say(options, f"Hold {hold.id} stands: {hold.kind} {hold.value}".rstrip() + ".")


def hold_release(
    context: typer.Context,
    identity: Annotated[str, typer.Argument(metavar="ID", help="The hold's id, as `tracemill hold list` prints it.")],
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Release a hold. The erasures it deferred are carried out by `tracemill maintain`."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        hold = opened.release_hold(identity)
        waiting = sum(request.hold == hold.id for request in opened.open_erasures())
    if options.json:
        emit_json({**_hold(hold), "waiting": waiting})
    say(options, f"Hold {hold.id} is released.")
    if waiting:
        say(options, f"{waiting:,} erasures waited for it: run `tracemill maintain`.")


def hold_list(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Print every legal hold, and the erasures that wait."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        holds, waiting = opened.holds(), opened.open_erasures()
    if options.json:
        emit_json({"holds": [_hold(hold) for hold in holds], "waiting": [request.id for request in waiting]})
        return
    if not holds:
        say(options, "There are no legal holds.")
    rows = [
        [hold.id, hold.kind, hold.value, "released" if hold.released else "stands", hold.reason, hold.actor]
        for hold in holds
    ]
    if rows:
        table(options, "", ["id", "kind", "of", "state", "reason", "by"], rows)
    for request in waiting:
        state = f"deferred by {request.hold}" if request.status == "deferred" else "cut off: run `tracemill maintain`"
        say(options, f"Erasure {request.id} ({request.kind}): {state}")


def _hold(hold: LegalHold) -> dict[str, object]:
    released = from_microseconds(hold.released).isoformat() if hold.released else None
    return {
        **msgspec.to_builtins(hold),
        "placed": from_microseconds(hold.placed).isoformat(),
        "released": released,
    }


def audit_list(
    context: typer.Context,
    action: Annotated[str | None, typer.Option(help="Only actions that begin so, such as erase or keys.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 50,
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Print the audit log's newest entries: who did something privileged, to what, when."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        entries = [entry for entry in opened.audit_log.entries() if entry.action.startswith(action or "")][-limit:]
    if options.json:
        emit_json([{**msgspec.to_builtins(entry), "time": _moment(entry.time)} for entry in entries])
        return
    rows = [
        [
            entry.number,
            _moment(entry.time),
            entry.actor,
            entry.action,
            entry.target,
            msgspec.json.encode(entry.detail).decode(),
        ]
        for entry in entries
    ]
    if rows:
        table(options, "", ["number", "time", "who", "action", "of", "detail"], rows)
    else:
        say(options, "The audit log has no such entry.")


def audit_verify(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Check the audit log: no entry changed, removed, inserted or cut off, and every signed head. Exit code 1 if not."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        problems = opened.audit_log.verify()
        number, digest = opened.store.audit_head()
    if options.json:
        emit_json({"entries": number, "hash": digest.hex(), "problems": problems})
    for problem in problems:
        say(options, f"LOOK  {problem}")
    if problems:
        raise typer.Exit(1)
    say(options, f"The audit log is sound: {number:,} entries, ending in {digest.hex()[:16]}….")


def audit_head(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Sign the end of the audit log and print it: keep it where the owner of the database cannot write."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        head = opened.audit_log.sign_head()
    if options.json:
        emit_json(msgspec.to_builtins(head))
    say(options, msgspec.json.encode(head).decode())


def _moment(microseconds: int) -> str:
    return from_microseconds(microseconds).isoformat(timespec="seconds")


def models(context: typer.Context, workspace: Folder = None, json: Json = False) -> None:
    """Print the models that were trained here, and which of them saw rows that were erased since."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        found = opened.models()
    if options.json:
        emit_json(msgspec.to_builtins(found))
        return
    if not found:
        say(options, "No model is noted. `tracemill dataset trained NAME@V MODEL` notes one.")
        return
    rows = [[m.name, m.dataset, m.trained.isoformat(timespec="seconds"), "tainted" if m.tainted else ""] for m in found]
    table(options, "", ["model", "dataset", "trained", "state"], rows)


def trained(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(help="The dataset version it was trained on: NAME@v3.")],
    model: Annotated[str, typer.Argument(help="The model's name.")],
    path: Annotated[str, typer.Option(help="Where it lies.")] = "",
    workspace: Folder = None,
    json: Json = False,
) -> None:
    """Note that a model was trained on a dataset version, so that an erasure can name the models it taints."""
    options = options_of(context, workspace, json)
    with open_workspace(options) as opened:
        noted = opened.note_model(reference, model, path=path)
    if options.json:
        emit_json(msgspec.to_builtins(noted))
    say(options, f"Noted: {noted.name} was trained on {noted.dataset}.")
