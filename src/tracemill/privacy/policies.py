"""The policies there are: those built in, and those of a workspace's own file.

The file (setting ``policies``) is YAML::

    policies:
      - name: research
        version: 2
        extends: standard          # its actions, threshold and scope count where this one says nothing
        actions: {city: keep, date: pseudonym}
    purposes: {train: research, share: mask}

Several versions of one name may stand there. ``research`` means the newest of them, ``research@1`` that one, and
``research@1#0123456789abcdef`` that one as long as it has this digest. ``purposes`` says which policy a dataset is built with
where its recipe names none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from tracemill.core.errors import SettingError
from tracemill.core.policy import ActionName, Name, Policy, Scope
from tracemill.core.records import Purpose
from tracemill.core.settings import Settings

STANDARD = Policy(
    name="standard",
    version=1,
    actions={
        **dict.fromkeys(
            ("contact", "place", "person", "money", "national", "medical", "account", "device"), "pseudonym"
        ),
        "date_of_birth": "pseudonym",
        "date": "keep",
        "age_over_89": "mask",
        "photo": "mask",
        "biometric": "mask",
        "secret": "mask",
    },
)
"""People become invented people, secrets their kind's name; dates but for those of birth stay."""
SAFE_HARBOR = Policy(
    name="safe-harbor", version=1, actions={**STANDARD.actions, "date": "pseudonym", "card_last_four": "mask"}
)
"""All eighteen identifiers of HIPAA's Safe Harbor (45 CFR 164.514(b)(2)): as ``standard``, and every date moved."""
MASK = Policy(name="mask", version=1, actions={"date": "keep"})
"""Everything becomes its kind's name."""
POLICIES: dict[str, Policy] = {policy.name: policy for policy in (STANDARD, SAFE_HARBOR, MASK)}
"""The built-in policies by name."""
_REFERENCE = re.compile(r"(?P<name>[^@#]+)(?:@(?P<version>[1-9][0-9]*))?(?:#(?P<digest>[0-9a-f]{16}))?")


class OwnPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy as the file writes it; see :class:`tracemill.core.policy.Policy`. What is absent is as in ``extends``."""

    name: Name
    version: Annotated[int, Meta(ge=1)]
    extends: str | None = None
    actions: dict[str, ActionName] = {}
    otherwise: ActionName | None = None
    scope: Scope | None = None
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    names: str | None = None


class PolicyFile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of policies."""

    policies: list[OwnPolicy] = []
    purposes: dict[Purpose, str] = {}


class Policies:
    """Every policy a workspace can name."""

    def __init__(self, policies: Iterable[Policy] = (), purposes: dict[Purpose, str] | None = None) -> None:
        self._found: dict[str, dict[int, Policy]] = {}
        for policy in (*POLICIES.values(), *policies):
            self._found.setdefault(policy.name, {})[policy.version] = policy
        self.purposes: dict[Purpose, str] = purposes or {}

    def listed(self) -> list[Policy]:
        """All of them, the built-in ones first, each name's versions in their order."""
        return [policy for versions in self._found.values() for _, policy in sorted(versions.items())]

    def find(self, reference: str) -> Policy:
        """The policy a reference means. Raises SettingError for one there is none of, or that was changed since."""
        match = _REFERENCE.fullmatch(reference)
        versions = self._found.get(match["name"], {}) if match is not None else {}
        if match is None or not versions:
            raise SettingError(
                f"there is no redaction policy {reference!r}",
                hint=f"There are: {', '.join(self._found)}. More come from the file that the setting policies names.",
            )
        number = int(match["version"]) if match["version"] else max(versions)
        if number not in versions:
            known = ", ".join(str(version) for version in sorted(versions))
            raise SettingError(f"policy {match['name']} has no version {number}", hint=f"It has: {known}.")
        policy = versions[number]
        if match["digest"] and match["digest"] != policy.digest():
            raise SettingError(
                f"policy {policy.name}@{number} is not what it was: its digest is {policy.digest()}, not {match['digest']}",
                hint="Give a policy that is changed another version, and keep the old one in the file.",
            )
        return policy


def exactly(policy: Policy) -> str:
    """The reference that means this policy and nothing else: name, version and digest."""
    return f"{policy.name}@{policy.version}#{policy.digest()}"


def load_policies(settings: Settings) -> Policies:
    """The built-in policies and those of the settings' file. Raises SettingError, which says what is wrong where in it."""
    if not settings.policies:
        return Policies()
    path = Path(settings.policies)
    try:
        content = msgspec.yaml.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingError(f"the file of policies {path} cannot be read: {error}") from error
    try:
        file = msgspec.convert(content if content is not None else {}, PolicyFile)
    except msgspec.ValidationError as error:
        raise SettingError(
            f"the file of policies {path} cannot be used: {_where(error, content)}",
            hint="docs/privacy.md shows one.",
        ) from None
    own = _own_policies(file, path)
    found = Policies(own, dict(file.purposes))
    _check_kinds(own, path)
    for purpose, reference in file.purposes.items():
        if purpose == "store":
            raise SettingError(
                f"{path}: purposes.store: what is stored goes by the setting redaction",
                hint="Set `redaction`, and take the entry out.",
            )
        found.find(reference)
    return found


def _own_policies(file: PolicyFile, path: Path) -> list[Policy]:
    made: dict[tuple[str, int], Policy] = {}
    for one in file.policies:
        if one.name in POLICIES:
            raise SettingError(f"{path}: {one.name} is built in, and stays as it is", hint="Give yours another name.")
        if (one.name, one.version) in made:
            raise SettingError(f"{path}: policy {one.name} version {one.version} stands there twice")
        base = Policy(name=one.name, version=one.version)
        if one.extends is not None:
            try:
                base = Policies(made.values()).find(one.extends)
            except SettingError as error:
                raise SettingError(
                    f"{path}: policy {one.name} extends what is not there: {error.message}",
                    hint="A policy extends a built-in one, or one that stands before it.",
                ) from None
        given: dict[str, Any] = {
            field: getattr(one, field)
            for field in ("otherwise", "scope", "threshold", "names")
            if getattr(one, field) is not None
        }
        changes = {"name": one.name, "version": one.version, "actions": {**base.actions, **one.actions}, **given}
        made[one.name, one.version] = msgspec.structs.replace(base, **changes)
    return list(made.values())


def _check_kinds(own: list[Policy], path: Path) -> None:
    named = {kind: policy for policy in own for kind in policy.actions}
    if not named:
        return
    need_packages()
    from difflib import get_close_matches  # noqa: PLC0415 - only for a message

    from tracemill.privacy.detect import GROUPS  # noqa: PLC0415 - needs the privacy extra

    known = GROUPS.keys() | set(GROUPS.values())
    for kind in sorted(named.keys() - known):
        near = get_close_matches(kind, known, n=2, cutoff=0.6)
        hint = f"Did you mean {' or '.join(near)}?" if near else "docs/privacy.md lists the kinds and groups."
        policy = named[kind]
        raise SettingError(
            f"{path}: policy {policy.name} version {policy.version} names {kind!r}, which is no kind and no group",
            hint=hint,
        )


def need_packages() -> None:
    """Raise SettingError when what finds personal data is not installed."""
    missing = [name for name in ("re2", "stdnum", "phonenumbers") if find_spec(name) is None]
    if missing:
        raise SettingError(
            f"redaction needs packages that are not installed: {', '.join(missing)}",
            hint="Install them with: pip install 'tracemill[privacy]'",
        )


def _where(error: Exception, content: Any) -> str:
    """A message that names the policy where msgspec names a number."""
    reason, _, path = str(error).partition(" - at `$")
    path = path.strip("`.")
    match = re.match(r"policies\[(\d+)\]", path)
    if match is not None and isinstance(content, dict):
        entry = content["policies"][int(match[1])]
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            path = f"policy {entry['name']}{path[match.end() :]}"
    return f"{path}: {reason}" if path else reason
