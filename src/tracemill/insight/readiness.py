"""Is there enough to train on? Five gates, each with its value.

Counted per platform, over interactions:

- **examples**: those with an answer (a response or an artifact), at least 50;
- **successful**: examples with ``success``, at least 30;
- **with_feedback**: examples somebody said something of, at least 10;
- **quality**: successful examples nobody objected to (no negative label, report, failed validation) and somebody approved (a
  thumb up, a rating of 4 or 5, a passed validation), at least 20;
- **score**: ``25 min(1, examples/50) + 25 min(1, successful/30) + 20 min(1, with_feedback/10) + 30 min(1, quality/20)``, at
  least 70. Each part is worth what it adds to a first training run; all four gates passed make 100.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tracemill.core.records import Interaction
from tracemill.feedback.attach import Attached, attach
from tracemill.store.base import DailyRow, Filter, Store

REQUIRED = {"examples": 50, "successful": 30, "with_feedback": 10, "quality": 20}
WEIGHTS = {"examples": 25, "successful": 25, "with_feedback": 20, "quality": 30}
REQUIRED_SCORE = 70
_AT_ONCE = 500
_ADVICE = {
    "examples": "capture {missing} more interactions with an answer",
    "successful": "{missing} more successful interactions are needed; say of each whether it succeeded",
    "with_feedback": "ask for feedback on {missing} more interactions",
    "quality": "{missing} more successful interactions need an approval: a thumb up, a rating of 4 or 5, a passed validation",
}


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition: what there is and what there has to be."""

    name: str
    value: float
    required: float

    @property
    def passed(self) -> bool:
        """Whether there is enough."""
        return self.value >= self.required


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a platform's records are enough to train on."""

    platform: str
    gates: tuple[Gate, ...]
    recommendations: tuple[str, ...]

    @property
    def score(self) -> float:
        """0 to 100."""
        return next(gate.value for gate in self.gates if gate.name == "score")

    @property
    def is_ready(self) -> bool:
        """Whether every gate is passed."""
        return all(gate.passed for gate in self.gates)

    def as_dict(self) -> dict[str, object]:
        """As the API answers it."""
        return {
            "platform": self.platform,
            "readiness_score": self.score,
            "is_ready": self.is_ready,
            "gates": [
                {"name": g.name, "value": g.value, "required": g.required, "passed": g.passed} for g in self.gates
            ],
            "metrics": {gate.name: gate.value for gate in self.gates if gate.name != "score"},
            "recommendations": list(self.recommendations),
        }


@dataclass(frozen=True, slots=True)
class Judged:
    """What people said of one platform's examples: of how many, and how many of those are of quality."""

    with_feedback: int = 0
    quality: int = 0


def judged(store: Store) -> dict[str, Judged]:
    """What people said, by platform. Reads every feedback and validation, and the interactions they are about."""
    attachments = attach(store)
    targets = sorted(attachments.targets())
    found: dict[str, dict[str, int]] = {}
    for start in range(0, len(targets), _AT_ONCE):
        for record in store.get_many(targets[start : start + _AT_ONCE]).values():
            if isinstance(record, Interaction):
                own = found.setdefault(record.platform or "", dict.fromkeys(REQUIRED, 0))
                _count(record, attachments.of(record.id), own)
    return {name: Judged(own["with_feedback"], own["quality"]) for name, own in found.items()}


def readiness(
    store: Store, platform: str, known: Mapping[str, Judged] | None = None, sums: Sequence[DailyRow] | None = None
) -> Readiness:
    """The readiness of a platform, by daily sums and by what people said (both read where they are not given).

    Raises what the store raises.
    """
    own = store.daily(platform=platform) if sums is None else [row for row in sums if row.platform == platform]
    rows = [row for row in own if row.type == "interaction"]
    counts = dict.fromkeys(REQUIRED, 0)
    if any(row.answered is None or row.answered_well is None for row in rows):
        attachments = attach(store)
        for record in store.scan(Filter(types=("interaction",), platforms=(platform,))):
            if isinstance(record, Interaction):
                _count(record, attachments.of(record.id), counts)
        return _readiness(platform, counts)
    said = (judged(store) if known is None else known).get(platform, Judged())
    counts["examples"] = sum(row.answered or 0 for row in rows)
    counts["successful"] = sum(row.answered_well or 0 for row in rows)
    counts |= {"with_feedback": said.with_feedback, "quality": said.quality}
    return _readiness(platform, counts)


def _count(interaction: Interaction, attached: Attached, counts: dict[str, int]) -> None:
    if interaction.response is None and interaction.artifact is None:
        return
    counts["examples"] += 1
    counts["successful"] += interaction.success is True
    counts["with_feedback"] += bool(attached.feedback)
    counts["quality"] += is_quality(interaction, attached)


def _readiness(platform: str, counts: dict[str, int]) -> Readiness:
    score = sum(WEIGHTS[name] * min(1.0, counts[name] / REQUIRED[name]) for name in REQUIRED)
    gates = [Gate(name, counts[name], REQUIRED[name]) for name in REQUIRED]
    gates.append(Gate("score", round(score, 1), REQUIRED_SCORE))
    advice = [
        _ADVICE[g.name].format(missing=int(g.required - g.value)) for g in gates if g.name in _ADVICE and not g.passed
    ]
    return Readiness(platform, tuple(gates), tuple(advice or ["ready: build a dataset with `tracemill dataset build`"]))


def is_quality(interaction: Interaction, attached: Attached) -> bool:
    """Whether an example succeeded, somebody approved it, and nobody objected."""
    labels = attached.labels({})
    if interaction.success is not True or attached.reported() or attached.failed_validation():
        return False
    if any(not label.positive for label in labels):
        return False
    return bool(labels) or any(check.passed is True for check in attached.validations)
