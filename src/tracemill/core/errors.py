"""Every error tracemill raises on purpose, as one tree.

    TracemillError
    ├── SettingError            a setting has a value that cannot be used
    ├── RecordError             one record cannot be encoded, decoded or stored (``reason`` is a stable word)
    ├── SpoolError              the local spool cannot be opened or written
    ├── DeliveryError           records could not be handed to the store or server (``retry`` says whether to try again)
    ├── StoreError              the store refused or failed
    │   ├── StoreBusyError      another process holds the write lock for longer than we wait
    │   ├── StoreFullError      no room left on the device that holds the store
    │   ├── StoreVersionError   the database was written by a newer tracemill
    │   └── ArchiveError        an object of the archive cannot be written or read, or is not what was written
    ├── SourceError             a file to import cannot be read as the format asked for
    ├── RecipeError             a recipe is not valid
    ├── DatasetError            a dataset or version does not exist, is damaged, or is being built elsewhere
    │   └── ProposalError       a version cannot become the current one as asked: decided already, erased, or a gate fails
    ├── ExportError             a dataset version cannot be written in the format asked for
    ├── TargetError             an address that nothing may be sent to: not public, not encrypted, or in disguise
    └── ErasureError            something that was to be erased is still there; the request stays open

An error says what is wrong and where in its message, and what to do next in ``hint``. A face (CLI, server) prints
both; nothing prints a traceback for these.
"""

from __future__ import annotations


class TracemillError(Exception):
    """Base of all errors raised on purpose. ``hint`` is one sentence: what to do next (may be empty)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SettingError(TracemillError):
    """A setting has a value that cannot be used; the message names the setting and where the value came from."""


class RecordError(TracemillError):
    """One record is not usable. ``reason`` is a stable snake_case word that counters and the quarantine group by."""

    def __init__(self, reason: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class SpoolError(TracemillError):
    """The local spool cannot be opened or written."""


class DeliveryError(TracemillError):
    """A batch could not be delivered. ``retry`` is False when sending the same bytes again cannot succeed.

    ``wait_seconds`` is the pause the other side asked for; 0 when it asked for none.
    """

    def __init__(self, message: str, *, retry: bool = True, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry = retry
        self.wait_seconds = 0.0


class StoreError(TracemillError):
    """The store refused or failed."""


class StoreBusyError(StoreError):
    """Another process holds the write lock for longer than we wait. Trying again is safe."""


class StoreFullError(StoreError):
    """No room is left on the device that holds the store. Nothing of the batch was stored."""


class StoreVersionError(StoreError):
    """The database was written by a newer tracemill than this one."""


class ArchiveError(StoreError):
    """An object of the archive cannot be written or read. ``missing``: it is not there; ``final``: trying again is vain."""

    missing = False
    final = False


class SourceError(TracemillError):
    """A file to import cannot be read as the format asked for."""


class RecipeError(TracemillError):
    """A recipe is not valid; the message names the key."""


class DatasetError(TracemillError):
    """A dataset or version does not exist, is damaged, or is being built by another process."""


class ProposalError(DatasetError):
    """A version cannot be proposed, approved, refused or rolled back to as things stand; the message says why."""


class ExportError(TracemillError):
    """A dataset version cannot be written in the format asked for."""


class ErasureError(TracemillError):
    """Something that was to be erased is still somewhere; the message says where. The request stays open."""


class TargetError(TracemillError):
    """An address that nothing may be sent to; the message says which and why. Nothing was sent."""
