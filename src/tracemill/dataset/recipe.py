"""A recipe: which records to read, what to do with them, which signals to take, how to split. Frozen and hashable.

As a file it is YAML with the field names of :class:`Recipe`; steps are names, or names with arguments::

    name: support
    source: {platforms: [support], since: 2026-01-01}
    steps:
      - well_formed
      - maximum_messages: {count: 200}
    signals: [supervised, labelled, edits, trials]
    split: {train: 0.9, test: 0.1}
    seed: 7

A step of one's own is written ``module:name``. In Python ``steps`` may hold any callable (see
:mod:`tracemill.dataset.steps`). Longer forms of ``split`` are shown in :mod:`tracemill.dataset.splitting`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta, Struct, field

from tracemill.core.consent import Default
from tracemill.core.errors import RecipeError
from tracemill.core.records import Purpose
from tracemill.dataset.augmented import TRAIN, Augmentation, usual_names
from tracemill.dataset.criteria import KEYS as CRITERIA
from tracemill.dataset.criteria import criteria_steps
from tracemill.dataset.features import EXECUTION_FEATURES, FEATURES, check_features, describe_feature, of_all
from tracemill.dataset.rules import DuplicatePatterns, Novelty, Rule
from tracemill.dataset.splitting import (
    GROUP_KEYS,
    NEAR_DUPLICATE,
    SPLIT_KEYS,
    Splitting,
    check_shares,
    check_splitting,
    fold_shares,
    is_long_form,
    long_form,
)
from tracemill.dataset.standing import Gates
from tracemill.dataset.steps import STEPS, InteractionStep, describe_step, import_step
from tracemill.feedback.attach import Scale
from tracemill.store.base import Filter

SignalName: TypeAlias = Literal[
    "supervised",
    "labelled",
    "edits",
    "trials",
    "regenerations",
    "rephrases",
    "recoveries",
    "actions",
    "decisions",
    "overrides",
    "checks",
    "rewards",
    "retrieval",
]
SIGNALS: tuple[SignalName, ...] = get_args(SignalName)
"""Every signal there is."""
DEFAULT_SIGNALS: tuple[SignalName, ...] = ("supervised", "labelled", "edits", "trials")
"""Those of a recipe that names none: what somebody said or decided. The others read behaviour, and are weaker."""
EXECUTION_SIGNALS: frozenset[SignalName] = frozenset(("actions", "decisions", "overrides"))
"""Signals that look at steps and decisions."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,62}")

_FIRST_FIELDS = frozenset(
    [
        "name",
        "description",
        "source",
        "signals",
        "scales",
        "labelled_unit",
        "trial_score",
        "preference_length",
        "split",
        "seed",
    ]
)
"""Fields that stand in every recipe's plain data and hash; those added later only where they differ from their default."""


class Source(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which interactions to read; all that is given must hold. ``user`` is a pseudonym; ``since`` is inclusive.

    Feedback and validations are not filtered: what was said of an interaction belongs to it.
    """

    platforms: tuple[str, ...] = ()
    conversation_id: str | None = None
    session_id: str | None = None
    user: str | None = None
    model: str | None = None
    success: bool | None = None
    since: datetime | None = None
    until: datetime | None = None

    def filter(self, *, after: int, up_to: int) -> Filter:
        """The store's filter for the interactions between two watermarks."""
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        return Filter(types=("interaction",), after=after, up_to=up_to, **fields)


def _default_scales() -> dict[str, Scale]:
    return {
        "reward": Scale(positive=1.0, negative=0.0),
        "sentiment": Scale(positive=0.5, negative=-0.5),
    }


def _default_split() -> dict[str, float]:
    return {"train": 0.8, "validation": 0.1, "test": 0.1}


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to make a dataset version. Every field has a default, so ``Recipe()`` is a sensible recipe.

    ``scales`` says which scores count as positive or negative, by the feedback's name. ``trial_score`` is the name of the
    score that compares trials of one task (``success`` compares the success flag instead, ``cost`` and ``duration`` those of
    two successes). ``labelled_unit`` and ``preference_length`` are explained in
    :mod:`tracemill.dataset.signals.labelled` and ``…trials``, ``weights`` and ``half_life_days`` in
    :mod:`tracemill.dataset.weights`. ``split`` gives the share of each split, by sets of records that belong together,
    ``splitting`` how they are put there, and ``seed`` draws them; for ``k_fold`` the splits are the folds, ``fold_1`` and so
    on. ``features`` are computed of every interaction and stand beside its examples (:mod:`tracemill.dataset.features`).
    ``augment`` adds variations of supervised examples to the split ``train`` (:mod:`tracemill.dataset.augmented`).
    ``purpose`` is what people must allow for their records to be taken, ``consent_default`` what holds for those who said
    nothing of it. ``canaries`` invented people are sent through the build to see what of them gets through
    (:mod:`tracemill.privacy.canaries`); no row is theirs. With a ``package``, rows have its name as their ``training_type``
    and say how the interaction went.
    ``license`` (an SPDX identifier or a sentence), ``intended_uses`` and ``forbidden_uses`` are what the documents of a
    version say of its use. ``gates`` are thresholds for proposals; they are no part of the hash, as they decide about a
    version and not what it is.
    ``redaction`` names the policy that is applied before steps and signals (see :mod:`tracemill.privacy.policies`); without
    one it is the policy of the purpose, and an empty text means none.

    Raises RecipeError on a value that cannot be used, also when made in Python.
    """

    name: str = "default"
    description: str = ""
    source: Source = Source()
    steps: tuple[InteractionStep, ...] = ()
    signals: tuple[SignalName, ...] = DEFAULT_SIGNALS
    scales: dict[str, Scale] = field(default_factory=_default_scales)
    labelled_unit: Literal["trajectory", "turn"] = "trajectory"
    trial_score: str = "reward"
    preference_length: Literal["message", "remainder"] = "message"
    split: dict[str, float] = field(default_factory=_default_split)
    seed: int = 0
    splitting: Splitting = Splitting()
    features: tuple[str, ...] = ()
    weights: Literal["none", "confidence", "balanced"] = "none"
    half_life_days: Annotated[float, Meta(gt=0)] | None = None
    package: str | None = None
    augment: Augmentation | None = None
    purpose: Purpose = "train"
    consent_default: Default = "granted"
    canaries: Annotated[int, Meta(ge=0, le=10_000)] = 0
    license: str = ""
    intended_uses: tuple[str, ...] = ()
    forbidden_uses: tuple[str, ...] = ()
    gates: Gates = Gates()
    redaction: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise RecipeError(
                f"name: {self.name!r} cannot name a dataset",
                hint="Use 1 to 63 letters, digits, '_', '-' and single dots, beginning with a letter or digit.",
            )
        self._check_split()
        check_features(self.features)
        for name, kind in (("duplicate_patterns", DuplicatePatterns), ("novelty", Novelty)):
            if sum(isinstance(step, kind) for step in self.steps) > 1:
                raise RecipeError(f"steps: {name} stands there twice")
        if self.half_life_days is not None and not (math.isfinite(self.half_life_days) and self.half_life_days > 0):
            raise RecipeError(f"half_life_days: a half-life is a positive number of days, not {self.half_life_days}")
        if self.augment is not None and TRAIN not in self.split:
            raise RecipeError("augment: there is no split named train, and augmented rows are in no other")
        for name, scale in self.scales.items():
            if not scale.negative < scale.positive:
                raise RecipeError(f"scales.{name}: negative must be below positive")

    def _check_split(self) -> None:
        splitting = self.splitting
        if splitting.folds is not None and splitting.method == "k_fold":
            folds = fold_shares(splitting.folds)
            if self.split not in (folds, _default_split()):
                raise RecipeError("split: k_fold has folds instead of shares")
            msgspec.structs.force_setattr(self, "split", folds)
        check_shares(self.split)
        check_splitting(splitting, self.split)
        of_one = [name for name in FEATURES if not of_all(name)]
        own = [name for name in self.features if name not in FEATURES]
        known = [*of_one, *own]
        _check_keys(splitting.by, known, "split.by: ", what="feature")
        _check_keys(splitting.group, [*GROUP_KEYS, NEAR_DUPLICATE, *known], "split.group: ", what="group key")

    def duplicates(self) -> DuplicatePatterns | None:
        """The step that leaves duplicate patterns out, if there is one."""
        return next((step for step in self.steps if isinstance(step, DuplicatePatterns)), None)

    def novelty(self) -> Novelty | None:
        """The step that prefers what is new, if there is one."""
        return next((step for step in self.steps if isinstance(step, Novelty)), None)

    def reads_executions(self) -> bool:
        """Whether anything in it looks at steps and decisions. Those of a recipe that does not are not read at all."""
        judged = any(isinstance(step, Rule) and step.reads_executions for step in self.steps)
        compared = self.duplicates() is not None or self.novelty() is not None
        measured = compared or self.package is not None
        looked_at = bool(EXECUTION_SIGNALS & set(self.signals))
        featured = bool(EXECUTION_FEATURES & {*self.features, *self.splitting.by, *self.splitting.group})
        return judged or measured or looked_at or featured

    def reads_conversations(self) -> bool:
        """Whether a signal compares the calls of one conversation."""
        return bool({"regenerations", "rephrases"} & set(self.signals))

    def plain(self) -> dict[str, Any]:
        """The whole recipe as plain data, steps described: what the manifest keeps and the hash is taken of.

        Fields that came after the first ones are left out while they have their default, so that a recipe of before
        keeps its hash. Raises RecipeError when a step cannot be described.
        """
        fields = {
            info.name: getattr(self, info.name)
            for info in msgspec.structs.fields(self)
            if info.name not in ("steps", "gates")
            and (info.name in _FIRST_FIELDS or getattr(self, info.name) != _default(info))
        }
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(fields))
        for moment in ("since", "until"):
            if (value := getattr(self.source, moment)) is not None:
                plain["source"][moment] = value.astimezone(UTC).isoformat()
        if self.features:
            plain["features"] = [describe_feature(name) for name in self.features]
        return {**plain, "steps": [describe_step(step) for step in self.steps]}

    def __hash__(self) -> int:
        return int(self.hash()[:15], 16)

    def hash(self) -> str:
        """SHA-256 of :meth:`plain` as JSON with sorted keys, in hex."""
        canonical = json.dumps(self.plain(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


def _default(info: msgspec.structs.FieldInfo) -> Any:
    """A field's default, also where a factory makes it."""
    return info.default if info.default_factory is msgspec.NODEFAULT else info.default_factory()


def default_recipe(name: str = "default") -> Recipe:
    """The recipe used where none is given: every interaction, no step, the default signals, 80/10/10."""
    return Recipe(name=name)


def load_recipe(path: Path) -> Recipe:
    """The recipe of a YAML file. Raises RecipeError, which names the file and the key."""
    try:
        content = msgspec.yaml.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe {path} cannot be read: {error}") from error
    try:
        return parse_recipe({} if content is None else content)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error.message}", hint=error.hint) from None


def parse_recipe(content: Any) -> Recipe:
    """A recipe from plain data. Raises RecipeError, which names the key, and the nearest known one for an unknown key."""
    if not isinstance(content, dict):
        raise RecipeError(f"a recipe is a mapping, not {type(content).__name__}")
    _check_keys(content, (*Recipe.__struct_fields__, *CRITERIA), "")
    values = dict(content)
    if isinstance(source := values.get("source"), dict):
        _check_keys(source, Source.__struct_fields__, "source.")
        values["source"] = {
            key: _moment(value, f"source.{key}") if key in ("since", "until") else value
            for key, value in source.items()
        }
    if isinstance(split := values.get("split"), dict) and is_long_form(split):
        _check_keys(split, SPLIT_KEYS, "split.")
        values.update(_parse_long_split(split))
    if isinstance(features := values.get("features"), list):
        named = [name for name in features if isinstance(name, str) and ":" not in name]
        _check_keys(named, FEATURES, "features: ", what="feature")
    if isinstance(gates := values.get("gates"), dict):
        _check_keys(gates, Gates.__struct_fields__, "gates.")
    if isinstance(scales := values.get("scales"), dict):
        for name, scale in scales.items():
            _check_keys(scale if isinstance(scale, dict) else {}, Scale.__struct_fields__, f"scales.{name}.")
    if isinstance(signals := values.get("signals"), list):
        _check_keys([name for name in signals if isinstance(name, str)], SIGNALS, "signals: ", what="signal")
    if isinstance(augment := values.get("augment"), dict):
        _check_keys(augment, Augmentation.__struct_fields__, "augment.")
        values["augment"] = usual_names(augment)
    criteria = criteria_steps(*(values.pop(key, None) for key in CRITERIA))
    steps = (*_parse_steps(values.pop("steps", [])), *_parse_steps(criteria, "criteria"))
    try:
        return msgspec.structs.replace(msgspec.convert(values, Recipe), steps=steps)
    except msgspec.ValidationError as error:
        raise RecipeError(_sentence(error)) from None


def recorded_recipe(plain: dict[str, Any], expected: str) -> Recipe:
    """The recipe that a manifest records with its hash. Raises RecipeError when a step of it is gone or was changed."""
    steps = []
    for step in plain.get("steps", []):
        name, arguments = str(step["step"]), step.get("arguments") or {}
        if name not in STEPS:  # somebody's own: recorded by its qualified name
            name = ":".join(name.rpartition(".")[::2])
        steps.append({name: arguments})
    features = [each["feature"] if isinstance(each, dict) else each for each in plain.get("features", [])]
    recipe = parse_recipe({**plain, "steps": steps, "features": features})
    if recipe.hash() != expected:
        raise RecipeError(
            f"the recipe of {recipe.name} is not what it was: a step or a feature was changed since",
            hint="Build the dataset again with the recipe you have now.",
        )
    return recipe


def _sentence(error: Exception) -> str:
    reason, _, path = str(error).partition(" - at `$")
    return f"{path.strip('`.')}: {reason}" if path.strip("`.") else reason


def _check_keys(keys: Iterable[Any], known: Iterable[str], where: str, what: str = "key") -> None:
    known = list(known)
    for key in keys:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key), known, n=2, cutoff=0.5)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known)}."
        raise RecipeError(f"{where}{key}: unknown {what}", hint=hint)


def _parse_long_split(split: dict[str, Any]) -> dict[str, Any]:
    """The fields of a recipe that the longer form of ``split`` says."""
    shares, fields = long_form(split)
    if isinstance(cuts := fields.get("cuts"), dict):
        fields["cuts"] = {name: _moment(value, f"split.cuts.{name}") for name, value in cuts.items()}
    try:
        splitting = msgspec.convert(fields, Splitting)
    except msgspec.ValidationError as error:
        raise RecipeError(f"split.{_sentence(error)}") from None
    if shares is None:
        return {"splitting": splitting, "split": _default_split()}
    return {"splitting": splitting, "split": shares}


def _moment(value: Any, where: str) -> Any:
    """YAML reads 2026-01-01 as a date and a time without an offset as naive: both are meant in UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise RecipeError(f"{where}: {error}") from None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value


def _parse_steps(entries: Any, where: str = "steps") -> tuple[InteractionStep, ...]:
    if not isinstance(entries, list):
        raise RecipeError("steps: a list of step names is expected")
    return tuple(_parse_step(entry, f"{where}[{index}]") for index, entry in enumerate(entries))


def _parse_step(entry: Any, where: str) -> InteractionStep:
    name, arguments = entry, None
    if isinstance(entry, dict) and len(entry) == 1:
        name, arguments = next(iter(entry.items()))
    if not isinstance(name, str):
        raise RecipeError(f"{where}: a name, or one name with its arguments, is expected")
    if ":" in name:
        if not isinstance(arguments, dict | None):
            raise RecipeError(f"{where}.{name}: arguments are a mapping")
        return import_step(name, arguments or {})
    _check_keys([name], STEPS, f"{where}: ", what="step")
    step = STEPS[name]
    if isinstance(arguments, dict):
        _check_keys(arguments, step.__struct_fields__, f"{where}.{name}.")
    try:
        return msgspec.convert(arguments or {}, step)
    except msgspec.ValidationError as error:
        raise RecipeError(f"{where}.{name}: {_sentence(error)}") from None
