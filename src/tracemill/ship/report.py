"""What one cycle did, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec import to_builtins

_NAMES = 20
_USUAL = frozenset({"sent", "pending"})


@dataclass(slots=True)
class Report:
    """Counts of one cycle. Files unless the name says otherwise; ``*_bytes`` are bytes.

    ``found`` files were looked at, ``new`` of them had not been packed before. ``packed`` counts files put into packages, and
    ``packages`` those packages. ``uploaded`` packages were acknowledged by ``request_ids``, ``uploaded_files`` were in them.
    ``cleaned`` files were deleted after that, ``compressed`` ones because their sealed package is kept instead while uploads
    fail. ``skipped`` counts what was not taken by its reason, ``skipped_names`` says which (the first 20 of a reason).
    ``set_aside`` lists what can never be sent as it is, and where it is kept. ``waiting`` packages are not acknowledged yet.
    ``problems`` is empty when everything went well.
    """

    found: int = 0
    new: int = 0
    packed: int = 0
    packages: int = 0
    uploaded: int = 0
    uploaded_files: int = 0
    uploaded_bytes: int = 0
    cleaned: int = 0
    compressed: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    records: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    skipped_names: dict[str, list[str]] = field(default_factory=dict)
    set_aside: list[str] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    wait_seconds: float = 0.0
    stopped: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing went wrong."""
        return not self.problems

    def skip(self, name: str, reason: str) -> None:
        """Count a file that was not taken."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        names = self.skipped_names.setdefault(reason, []) if reason not in _USUAL else []
        if len(names) < _NAMES:
            names.append(name)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Count what is skipped within only if it ends well: else it is done again."""
        counts, names = dict(self.skipped), {reason: list(names) for reason, names in self.skipped_names.items()}
        try:
            yield
        except BaseException:  # what was not done is not counted
            self.skipped, self.skipped_names = counts, names
            raise

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"ok": self.ok, **to_builtins(self)}

    def as_text(self) -> str:
        """The report in one line."""
        parts = [
            f"{self.found} found, {self.new} new",
            f"{self.uploaded_files} uploaded in {self.uploaded} packages ({self.uploaded_bytes} bytes)",
        ]
        parts += [f"{self.cleaned} deleted after it"] * bool(self.cleaned)
        parts += [f"{self.compressed} kept in packages only"] * bool(self.compressed)
        parts += [f"{count} skipped ({reason})" for reason, count in self.skipped.items()]
        parts += [f"{len(self.set_aside)} set aside"] * bool(self.set_aside)
        parts += [f"{self.waiting} packages waiting"] * bool(self.waiting)
        return "; ".join(parts + self.problems)
