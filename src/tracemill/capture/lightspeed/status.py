"""Whether feedback is taken: as the configuration says, until an admin says otherwise.

What an admin said lies in the workspace, so that every process on it agrees and a restart does not forget it.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from tracemill.capture.lightspeed.files import write_json
from tracemill.core.errors import SettingError

_PLACE = Path("lightspeed") / "feedback-status.json"


class _Status(msgspec.Struct, frozen=True):
    """The file's content."""

    enabled: bool
    updated_by: str
    timestamp: str


def feedback_enabled(workspace: Path, configured: bool) -> bool:
    """Whether feedback is taken now. Raises SettingError when the file cannot be read."""
    path = workspace / _PLACE
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Status).enabled
    except FileNotFoundError:
        return configured
    except (OSError, msgspec.MsgspecError) as error:
        raise SettingError(f"{path} cannot be read: {error}", hint="Remove it to go by the configuration.") from error


def set_feedback_enabled(
    workspace: Path, enabled: bool, *, configured: bool, updated_by: str, time: datetime
) -> dict[str, Any]:
    """Take feedback from now on, or not; returns the ``status`` to answer. Raises SettingError."""
    previous = feedback_enabled(workspace, configured)
    status = _Status(enabled, updated_by, str(time))
    try:
        write_json(workspace, workspace / _PLACE, status)
    except OSError as error:
        raise SettingError(f"{workspace / _PLACE} cannot be written: {error.strerror}") from error
    return {
        "previous_status": previous,
        "updated_status": enabled,
        "updated_by": updated_by,
        "timestamp": status.timestamp,
    }
