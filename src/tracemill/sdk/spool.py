"""The spool of a workspace: one folder a producer, held by a lock while its process lives.

    spool/<producer>/lock       flock'ed by the process that owns or has adopted the folder
    spool/<producer>/ledger     its counters
    spool/<producer>/*.seg      its segments, oldest first by name
    spool/dead/*.json           records nobody would take, with the reason
    spool/summary.json          the counters of producers that are done, folded into one

A lock belongs to an open file, not to a process number, so it goes with its process however that ends.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tracemill.core.errors import DeliveryError, SpoolError
from tracemill.core.ids import now
from tracemill.core.owned import close_owned, locked, open_owned
from tracemill.core.steps import Progress
from tracemill.sdk.delivery import Delivered, Delivery
from tracemill.sdk.ledger import Counts, Ledger
from tracemill.sdk.segment import HEADER_BYTES, Frame, Segment, SegmentReader

SPOOL, DEAD, SUMMARY = "spool", "dead", "summary.json"
BATCH_BYTES = 8 * 1024 * 1024
_FOLDED_REMEMBERED = 1000
_DRAFT = ".new-"


class ProducerFolder:
    """The folder of one producer, locked by us."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.producer = path.name
        self.ledger = Ledger(path / "ledger")
        self._lock = lock
        self._number = 0

    @classmethod
    def create(cls, workspace: Path, producer: str) -> ProducerFolder:
        """The folder of a new producer. Raises OSError when the workspace cannot be written."""
        path = workspace / SPOOL / producer
        draft = path.with_name(f"{_DRAFT}{producer}")  # nobody looks in here for what a dead process left
        draft.mkdir(parents=True, mode=0o700)
        lock = _try_lock(draft, fcntl.LOCK_EX, create=True)
        try:
            if lock is None:
                raise OSError(f"{draft} was locked by somebody else")
            draft.rename(path)  # the lock belongs to the open file and comes along
            return cls(path, lock)
        except BaseException:  # whatever it was, the folder does not stay locked
            if lock is not None:
                close_owned(lock)
            shutil.rmtree(draft, ignore_errors=True)
            raise

    @classmethod
    def adopt(cls, path: Path) -> ProducerFolder | None:
        """The folder of a producer whose process is gone, or None while somebody holds it."""
        lock = _try_lock(path, fcntl.LOCK_EX)
        if lock is None:
            return None
        try:
            if (path / "lock").exists():  # else another process finished it between our look and our lock
                return cls(path, lock)
        except BaseException:  # whatever it was, the folder does not stay locked
            close_owned(lock)
            raise
        close_owned(lock)
        return None

    def new_segment(self, size: int) -> Segment:
        """Make the next segment. Raises OSError when there is no room."""
        self._number += 1
        return Segment.create(self.path / f"{self._number:012d}.seg", size)

    def segments(self) -> list[Path]:
        """Segment files, oldest first."""
        return sorted(self.path.glob("*.seg"))

    def sync(self) -> None:
        """Bring the names of new segments to the device. Raises OSError."""
        descriptor = open_owned(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            close_owned(descriptor)

    def close(self) -> None:
        """Let go of the folder; its files stay."""
        self.ledger.close()
        close_owned(self._lock)


def _try_lock(path: Path, kind: int, *, create: bool = False) -> int | None:
    try:
        descriptor = open_owned(path / "lock", os.O_RDWR | (os.O_CREAT if create else 0))
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError:
        close_owned(descriptor)
        return None
    return descriptor


def bytes_used(workspace: Path) -> int:
    """Bytes of all segments in the spool."""
    total = 0
    for path in (workspace / SPOOL).glob("*/*.seg"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def bury(workspace: Path, payload: bytes, reason: str, message: str, producer: str) -> None:
    """Write a dead letter, atomically; the same record again replaces its letter. Raises OSError."""
    folder = workspace / SPOOL / DEAD
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = hashlib.sha256(payload).hexdigest()[:32]
    letter = {
        "time": now().isoformat(),
        "reason": reason,
        "message": message,
        "producer": producer,
        "record": base64.b64encode(payload).decode(),
    }
    draft = folder / f".{name}.tmp"
    with draft.open("wb") as file:
        file.write(json.dumps(letter).encode())
        file.flush()
        os.fsync(file.fileno())  # the record leaves the segment, which may have been synced
    draft.rename(folder / f"{name}.json")


class Batches:
    """Delivers frames in batches; a batch that is refused for good is split until its poison stands alone."""

    def __init__(self, workspace: Path, delivery: Delivery, records: int) -> None:
        self._workspace = workspace
        self.delivery = delivery
        self._records = records
        self.distrust = False
        """Set when the delivery keeps failing for no stated reason: then the records that make it fail are looked for."""

    def of(self, segment: SegmentReader, start: int, end: int) -> Iterator[tuple[list[bytes], int, int]]:
        """Batches of a segment: payloads, the offset after them, and how many stretches of damage were passed."""
        items: list[bytes] = []
        size, damaged, at = 0, 0, start
        for found in segment.frames(start, end):
            if isinstance(found, Frame):
                if found.payload.strip(b"\0"):  # else it was overwritten: erased
                    items.append(found.payload)
                    size += len(found.payload)
                at = found.end
            else:
                damaged += 1
            if len(items) >= self._records or size >= BATCH_BYTES:
                yield items, at, damaged
                items, size, damaged = [], 0, 0
        if items or damaged:
            yield items, at, damaged

    def deliver(self, items: list[bytes], producer: str) -> Delivered:
        """Deliver some payloads, burying what is refused for good. Raises DeliveryError when it should be tried again."""
        if not items:
            return Delivered(0)
        try:
            return self.delivery.deliver(items)
        except DeliveryError as error:
            if error.retry:
                raise
            if len(items) == 1:
                bury(self._workspace, items[0], "refused", error.message, producer)
                return Delivered(0, 1)
        except Exception:  # the delivery is somebody else's code
            if not self.distrust:
                raise
            return self._one_by_one(items, producer)
        middle = len(items) // 2
        return self.deliver(items[:middle], producer) + self.deliver(items[middle:], producer)

    def _one_by_one(self, items: list[bytes], producer: str) -> Delivered:
        """Bury what fails alone while another record of the batch goes through; when all fail it is not the records."""
        result = Delivered(0)
        failed: list[tuple[bytes, Exception]] = []
        for item in items:
            try:
                result += self.delivery.deliver([item])
            except Exception as reason:
                # The delivery is somebody else's code; judged below, when all have been tried.
                if isinstance(reason, DeliveryError) and reason.retry:
                    raise
                failed.append((item, reason))
        if len(failed) == len(items):
            raise failed[-1][1]
        for item, error in failed:
            bury(self._workspace, item, "failed", f"{type(error).__name__}: {error}", producer)
        self.distrust = False
        return result + Delivered(0, len(failed))


@dataclass(slots=True)
class Drained:
    """What a drain did. ``skipped`` names files that are no segments of ours; ``live`` counts producers still at work."""

    producers: int = 0
    stored: int = 0
    dead_lettered: int = 0
    no_consent: int = 0
    damaged: int = 0
    live: int = 0
    skipped: list[str] = field(default_factory=list)


def abandoned(workspace: Path) -> Iterator[ProducerFolder]:
    """The folders of producers whose process is gone, locked one after another; the caller closes each."""
    root = workspace / SPOOL
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if path.is_dir() and path.name != DEAD and not path.name.startswith(_DRAFT):
            folder = ProducerFolder.adopt(path)
            if folder is not None:
                yield folder


def drain(
    workspace: Path, delivery: Delivery, *, batch_records: int = 1000, progress: Progress | None = None
) -> Drained:
    """Deliver what finished or killed processes left, and clear it away. Live producers deliver for themselves.

    Raises DeliveryError when the store cannot take it now: what was delivered until then stays delivered, and the rest
    stays spooled.
    """
    drained = Drained()
    for folder in abandoned(workspace):
        try:
            deliver_folder(workspace, folder, delivery, drained, batch_records, progress)
        except OSError as error:  # a device that does not give a file back, or a full one: this folder has to wait
            drained.skipped.append(f"{folder.producer}: {error}")
        finally:
            folder.close()
    root = workspace / SPOOL
    if root.is_dir():
        drained.live = sum(1 for path in root.iterdir() if path.is_dir() and _is_live(path))
    return drained


def deliver_folder(
    workspace: Path,
    folder: ProducerFolder,
    delivery: Delivery,
    drained: Drained,
    batch_records: int,
    progress: Progress | None = None,
) -> None:
    """Deliver everything an adopted folder holds, then fold its counters and remove it. Raises DeliveryError, OSError."""
    batches = Batches(workspace, delivery, batch_records)
    for path in folder.segments():
        try:
            segment = SegmentReader(path)
        except SpoolError as error:
            if not never_begun(path):
                drained.skipped.append(f"{path.name}: {error}")
                keep = workspace / SPOOL / DEAD / f"{folder.producer}-{path.name}"
                keep.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                path.rename(keep)
            continue
        try:
            for items, end, damaged in batches.of(segment, segment.delivered, segment.size):
                result = batches.deliver(items, folder.producer)
                note_delivered(folder.ledger, segment, end, result)
                drained.stored += result.stored
                drained.dead_lettered += result.dead_lettered
                drained.no_consent += result.no_consent
                drained.damaged += damaged
                if progress is not None:
                    progress("delivering", drained.stored + drained.dead_lettered, None)
        finally:
            segment.close()
        path.unlink(missing_ok=True)
    settle(folder.ledger)
    fold(workspace, folder)
    drained.producers += 1


@dataclass(slots=True)
class Scrubbed:
    """What :func:`scrub` did: frames overwritten, and frames that a living process has yet to deliver."""

    overwritten: int = 0
    waiting: int = 0


def scrub(workspace: Path, wanted: Callable[[bytes], bool], *, look_only: bool = False) -> Scrubbed:
    """Overwrite the payloads that are wanted, where they lie; ``look_only`` counts them.

    A delivered frame stays in its segment until that is full, so delivered frames of living processes are overwritten
    too: the rest of the frame is kept, and nobody reads it again. A frame yet to be delivered is a dead process's to lose,
    and counts as dead-lettered; a living one's is left to whoever it is delivered to.
    """
    found = Scrubbed()
    root = workspace / SPOOL
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if not path.is_dir() or path.name == DEAD:
            continue
        lock = None if look_only else _try_lock(path, fcntl.LOCK_EX)
        try:
            for file in sorted(path.glob("*.seg")):
                _scrub_segment(path, file, wanted, found, ours=lock is not None, look_only=look_only)
        finally:
            if lock is not None:
                close_owned(lock)
    return found


def _scrub_segment(
    folder: Path, file: Path, wanted: Callable[[bytes], bool], found: Scrubbed, *, ours: bool, look_only: bool
) -> None:
    try:
        segment = SegmentReader(file, writable=not look_only)
    except (SpoolError, OSError):
        return
    try:
        delivered = segment.delivered
        for frame in segment.frames(HEADER_BYTES):
            if not isinstance(frame, Frame) or not frame.payload.strip(b"\0") or not wanted(frame.payload):
                continue
            if frame.end > delivered and not ours and not look_only:
                found.waiting += 1
                continue
            found.overwritten += 1
            if look_only:
                continue
            segment.overwrite(frame)
            if frame.end > delivered:
                ledger = Ledger(folder / "ledger")
                ledger.add("dead_lettered", 1)
                ledger.close()
    finally:
        segment.close()


def note_delivered(ledger: Ledger, segment: SegmentReader, end: int, result: Delivered) -> None:
    """Count a delivered batch, then move the segment's mark: a kill in between counts it twice, which settling mends."""
    ledger.add("stored", result.stored)
    ledger.add("dead_lettered", result.dead_lettered)
    ledger.drop("no_consent", result.no_consent)
    segment.set_delivered(end)


def never_begun(path: Path) -> bool:
    """Whether a segment's process was killed while it made the file: it has room, and nothing was written yet."""
    try:
        with path.open("rb") as file:
            return not file.read(HEADER_BYTES).strip(b"\0")
    except OSError:
        return False


def settle(ledger: Ledger) -> None:
    """Make the counters of a producer that is done agree with each other; all its segments are delivered.

    Frames that never came back were lost to damage. A batch that was counted twice (see :func:`note_delivered`) was not
    stored twice. What a killed process had in memory went with it. A kill between two counters is one record at most.
    """
    refused = ledger.get("dead_lettered") + ledger.get("dropped_damaged") + ledger.get("dropped_no_consent")
    found = ledger.get("stored") + refused
    if found == ledger.get("appended") + 1:
        ledger.set("appended", found)  # killed right after the record was written, before it was counted
    most = ledger.get("appended") - refused
    ledger.set("stored", min(ledger.get("stored"), max(most, 0)))
    lost = most - ledger.get("stored")
    if lost > 0:
        ledger.drop("damaged", lost)
    nowhere = ledger.counts().unaccounted
    if nowhere > 0:
        ledger.drop("killed", nowhere)
    else:
        ledger.add("captured", -nowhere)


def fold(workspace: Path, folder: ProducerFolder) -> None:
    """Add the counters of a finished producer to the summary and remove its folder. Safe to be cut off anywhere."""
    root = workspace / SPOOL
    with locked(root / ".fold.lock"):
        summary = read_summary(workspace)
        counts = folder.ledger.counts()
        if folder.producer not in summary.folded and counts != Counts():
            summary.counts = summary.counts + counts
            summary.producers += 1
            summary.folded = [*summary.folded, folder.producer][-_FOLDED_REMEMBERED:]
            draft = root / ".summary.tmp"
            draft.write_bytes(msgspec.json.encode(summary))
            draft.rename(root / SUMMARY)
        shutil.rmtree(folder.path, ignore_errors=True)


@dataclass(slots=True)
class Summary:
    """Counters of all producers that are done; ``folded`` names the latest, so that none is counted twice."""

    producers: int = 0
    counts: Counts = field(default_factory=Counts)
    folded: list[str] = field(default_factory=list)


def read_summary(workspace: Path) -> Summary:
    """The summary; an empty one where there is none or it cannot be read."""
    try:
        return msgspec.json.decode((workspace / SPOOL / SUMMARY).read_bytes(), type=Summary)
    except (OSError, msgspec.MsgspecError):
        return Summary()


@dataclass(slots=True)
class ProducerHealth:
    """One producer: whether its process lives, its counters, and what its segments hold."""

    producer: str
    live: bool
    counts: Counts
    segments: int
    bytes: int
    damaged: int


@dataclass(slots=True)
class SpoolHealth:
    """The state of a spool, for `tracemill doctor`."""

    producers: list[ProducerHealth]
    finished_producers: int
    counts: Counts
    """Of all producers, finished ones included."""
    dead_letters: int
    problems: list[str]


def inspect(workspace: Path) -> SpoolHealth:
    """Look at a spool without changing it. What is in the memory of a live process counts as queued."""
    summary = read_summary(workspace)
    health = SpoolHealth([], summary.producers, summary.counts, 0, [])
    root = workspace / SPOOL
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if path.name == DEAD:
            health.dead_letters = sum(1 for _ in path.glob("*.json"))
        elif path.is_dir() and not path.name.startswith(_DRAFT) and path.name not in summary.folded:
            producer = _inspect_producer(path, health.problems)
            health.producers.append(producer)
            health.counts = health.counts + producer.counts
    return health


def _is_live(path: Path) -> bool:
    lock = _try_lock(path, fcntl.LOCK_SH)  # shared, so that whoever wants to adopt it is hardly in anybody's way
    if lock is not None:
        close_owned(lock)
    return lock is None and (path / "lock").exists()


def _inspect_producer(path: Path, problems: list[str]) -> ProducerHealth:
    live = _is_live(path)
    spooled = damaged = size = segments = 0
    for file in sorted(path.glob("*.seg")):
        try:
            segment = SegmentReader(file, writable=False)
        except FileNotFoundError:
            continue
        except (SpoolError, OSError) as error:
            if not never_begun(file):
                problems.append(f"spool/{path.name}/{file.name}: {error}")
            continue
        segments += 1
        size += segment.size
        try:
            for found in segment.frames(segment.delivered):
                if isinstance(found, Frame):
                    spooled += bool(found.payload.strip(b"\0"))  # else it was erased, and counted when it was
                else:
                    damaged += 1
        except (SpoolError, OSError) as error:
            problems.append(f"spool/{path.name}/{file.name}: {error}")
        finally:
            segment.close()
    if damaged and not live:
        problems.append(f"spool/{path.name}: {damaged} damaged stretches; whole records around them are delivered")
    counts = Counts(spooled=spooled)
    if (path / "ledger").exists():
        ledger = Ledger(path / "ledger")
        counts = ledger.counts(spooled=spooled)
        ledger.close()
    if counts.unaccounted > 0:
        nowhere = counts.unaccounted
        counts = counts + (Counts(queued=nowhere) if live else Counts(dropped={"killed": nowhere}))
    return ProducerHealth(path.name, live, counts, segments, size, damaged)
