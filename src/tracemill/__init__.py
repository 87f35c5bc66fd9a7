"""tracemill: what an LLM application does in production, as training data its owner can trust.

    from tracemill import get_data_collector

    collector = get_data_collector()
    interaction_id = collector.log_conversation("Where is my parcel?", "It arrives tomorrow.", platform="support")
    collector.log_user_feedback("thumbs_up", interaction_id)

Importing this loads next to nothing; each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracemill.collector import DataCollector, collect_interaction_data, get_data_collector
    from tracemill.core.errors import TracemillError
    from tracemill.core.records import (
        AnyRecord,
        Consent,
        Decision,
        Feedback,
        Interaction,
        SessionEnd,
        Step,
        Validation,
    )
    from tracemill.core.steps import Change, Drop, Keep
    from tracemill.dataset.recipe import Recipe, load_recipe
    from tracemill.quality.augment import DataAugmentor
    from tracemill.quality.validator import DataValidator
    from tracemill.workspace import Workspace

__version__ = "0.1.0"
__all__ = [
    "AnyRecord",
    "Change",
    "Consent",
    "DataAugmentor",
    "DataCollector",
    "DataValidator",
    "Decision",
    "Drop",
    "Feedback",
    "Interaction",
    "Keep",
    "Recipe",
    "SessionEnd",
    "Step",
    "TracemillError",
    "Validation",
    "Workspace",
    "__version__",
    "collect_interaction_data",
    "get_data_collector",
    "load_recipe",
]
_RECORDS = ("AnyRecord", "Consent", "Decision", "Feedback", "Interaction", "SessionEnd", "Step", "Validation")
_HOMES = {
    **dict.fromkeys(("DataCollector", "collect_interaction_data", "get_data_collector"), "tracemill.collector"),
    **dict.fromkeys(_RECORDS, "tracemill.core.records"),
    **dict.fromkeys(("Change", "Drop", "Keep"), "tracemill.core.steps"),
    **dict.fromkeys(("Recipe", "load_recipe"), "tracemill.dataset.recipe"),
    "DataAugmentor": "tracemill.quality.augment",
    "DataValidator": "tracemill.quality.validator",
    "TracemillError": "tracemill.core.errors",
    "Workspace": "tracemill.workspace",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tracemill' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
