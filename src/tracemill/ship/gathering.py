"""Files into sealed packages: which are new, what goes together, what is too large, and room on the disk while uploads fail."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path

from tracemill.core.errors import SourceError
from tracemill.core.ids import new_id
from tracemill.ship.ledger import Entry, Ledger
from tracemill.ship.outbox import Draft, Outbox
from tracemill.ship.packing import Member, Package, UnfinishedError, is_whole, part_name, split
from tracemill.ship.redaction import Redaction, apply
from tracemill.ship.report import Report
from tracemill.ship.scanning import (
    Found,
    Passed,
    is_same,
    open_same,
    read_same,
    remove_empty_parents,
    remove_same,
    scan,
)
from tracemill.ship.sending import clean
from tracemill.ship.settings import ShipSettings

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Gatherer:
    """The files of one cycle."""

    def __init__(
        self, settings: ShipSettings, ledger: Ledger, outbox: Outbox, report: Report, redaction: Redaction | None
    ) -> None:
        self._settings, self._ledger, self._outbox, self._report = settings, ledger, outbox, report
        self._redaction = redaction
        self._folder = Path(settings.data_dir)

    def groups(self) -> list[list[Found]]:
        """New files, oldest first, in groups that fit into one package each. A file that is too large stands alone.

        Files that are known are counted, and deleted when they were acknowledged. Raises OSError.
        """
        settings = self._settings
        new = []
        for one in scan(self._folder, settings.allowed_subdirs, settings.quiet_seconds, settings.state):
            if isinstance(one, Passed):
                self._report.skip(one.name, one.reason)
                continue
            self._report.found += 1
            sha256 = self._ledger.known(one)
            if sha256 is None or not self._is_known(one, sha256):
                new.append(one)
        self._report.new += len(new)
        groups: list[list[Found]] = []
        room = 0
        for one in sorted(new, key=lambda found: (found.modified, found.name)):
            if not groups or one.size > room:
                groups.append([])
                room = settings.max_package_bytes
            groups[-1].append(one)
            room -= one.size
        return groups

    def _is_known(self, found: Found, sha256: str) -> bool:
        """Whether the content is in a package already; then the file is counted, and deleted when it may be."""
        state = self._ledger.state(found.name, sha256)
        if state is None:
            return False
        self._report.skip(found.name, state)
        if state == "sent" and self._settings.cleanup_after_send:
            clean(self._settings, self._ledger, [Entry(found.name, found, sha256)], self._report)
        return True

    def seal_next(self, groups: list[list[Found]]) -> list[Package]:
        """The packages of the first group, which is taken off the list, in the outbox.

        Where there is no room for them it is the first half that is taken, or less: a full disk is emptied a piece at a time.
        Raises OSError when there is no room for even one file's package, StoreError.
        """
        while True:
            group = groups.pop(0)
            try:
                with self._report.all_or_nothing():
                    return self._seal(group)
            except OSError as error:
                if error.errno not in _NO_ROOM or len(group) == 1:
                    raise
            middle = len(group) // 2
            groups[:0] = [group[:middle], group[middle:]]

    def _seal(self, group: Sequence[Found]) -> list[Package]:
        if group[0].size > self._settings.max_package_bytes:
            drafts = self._cut(group[0])
        else:
            entries: list[Entry] = []
            draft = self._outbox.draft(self._members(group, entries), entries)
            drafts = [draft] if draft else []
        if not drafts:
            return []
        self._report.packed += len({entry.found.name for draft in drafts for entry in draft.entries})
        self._report.packages += len(drafts)
        return self._outbox.seal(drafts)

    def _members(self, group: Sequence[Found], entries: list[Entry]) -> Iterator[Member]:
        """What of a group is whole and new, read once; ``entries`` gets the same files."""
        for found in sorted(group, key=lambda one: one.name):
            try:
                content = read_same(self._folder, found)
            except OSError:
                self._report.skip(found.name, "unreadable")
                continue
            if content is None:
                self._report.skip(found.name, "changed")
            elif not is_whole(found.name, content):
                self._report.skip(found.name, "incomplete")
            elif not self._is_known(found, sha256 := hashlib.sha256(content).hexdigest()):
                try:
                    content = apply(self._redaction, found.name, content)
                except SourceError as error:
                    self._report.skip(found.name, "not_redacted")
                    self._report.problems.append(error.message)
                    continue
                entries.append(Entry(found.name, found, sha256))
                yield Member(found.name, content)

    def _cut(self, found: Found) -> list[Draft]:
        """A file that is too large as packages of its parts; none when it is left, or set aside."""
        try:
            file = open_same(self._folder, found)
        except OSError:
            self._report.skip(found.name, "unreadable")
            return []
        if file is None:
            self._report.skip(found.name, "changed")
            return []
        drafts: list[Draft] = []
        whole = False
        try:
            with file:
                drafts += self._parts(found, file)
                whole = is_same(file, found)
            if not whole:
                self._report.skip(found.name, "changed")
        except UnfinishedError:
            self._report.skip(found.name, "incomplete")
        except SourceError as error:
            self._set_aside(found, error.message)
        finally:
            if not whole:
                self._outbox.discard(drafts)
        return drafts if whole else []

    def _parts(self, found: Found, file: BufferedReader) -> Iterator[Draft]:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if self._is_known(found, sha256):
            return
        file.seek(0)
        for number, part in enumerate(split(found.name, file, self._settings.max_package_bytes), 1):
            name = part_name(found.name, number)
            member = Member(name, apply(self._redaction, name, part))
            draft = self._outbox.draft([member], [Entry(name, found, sha256)])
            assert draft is not None  # it has an entry
            yield draft

    def _set_aside(self, found: Found, reason: str) -> None:
        """Keep a file that no package can hold where nobody trips over it; where it is, if it is not ours to move."""
        if not self._settings.cleanup_after_send:
            self._report.skip(found.name, "too_large")
            return
        kept = self._outbox.aside / found.name
        if kept.exists():
            kept = kept.with_name(f"{new_id()}-{kept.name}")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self._folder / found.name).rename(kept)
        except OSError as error:
            self._report.skip(found.name, "too_large")
            if error.errno != errno.EXDEV:
                self._report.problems.append(f"{found.name} is too large and cannot be set aside: {error.strerror}")
            return
        self._report.set_aside.append(f"{found.name}: {reason}, kept as {kept}")

    def make_room(self, groups: list[list[Found]]) -> None:
        """Keep unsent files, oldest first, in sealed packages alone until the others fit ``max_unsent_bytes``.

        ``groups`` are those that are not packed yet. A file is deleted only when its package has been read back. Does nothing
        when files are not ours to delete. Raises OSError, StoreError.
        """
        if not self._settings.cleanup_after_send:
            return
        sealed = self._files(self._ledger.pending())
        excess = sum(found.size for found, _ in sealed)
        excess += sum(found.size for group in groups for found in group) - self._settings.max_unsent_bytes
        excess -= self._keep_packed(sealed, excess)
        while groups and excess > 0:
            excess -= self._keep_packed(self._files(self.seal_next(groups)), excess)

    def _files(self, packages: Sequence[Package]) -> list[tuple[Found, str]]:
        """The files of packages that still lie where they were found, oldest first, and their hashes."""
        files = {(entry.found, entry.sha256) for package in packages for entry in self._ledger.entries(package.sha256)}
        there = [pair for pair in files if (self._folder / pair[0].name).is_file()]
        return sorted(there, key=lambda pair: (pair[0].modified, pair[0].name))

    def _keep_packed(self, files: Sequence[tuple[Found, str]], wanted: int) -> int:
        """Delete files whose packages have been read back until so many bytes are free; how many are."""
        sound: dict[Package, bool] = {}
        freed = 0
        for found, sha256 in files:
            if freed >= wanted:
                break
            packages = self._ledger.packages_of(found.name, sha256)
            sound |= {package: self._outbox.is_sound(package) for package in packages if package not in sound}
            if all(sound[package] for package in packages) and remove_same(self._folder, found, sha256):
                self._report.compressed += 1
                freed += found.size
                remove_empty_parents(self._folder, found.name)
        return freed
