"""Where the parts of a build run: what a part needs to know, in this process, in another one, or on another machine.

A part is a module-level function of a :class:`Site` and one argument. It reads the store and files of the working folder,
writes files there that are whole or absent, and gives a small result. What it writes is a function of the records, the
recipe and its argument: where it ran, and what ran beside it, leaves no trace.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from tracemill.core.settings import Settings
from tracemill.dataset.files import write_whole
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.redaction import Redacts
from tracemill.store.base import Store
from tracemill.store.tiered import open_store

_INPUTS = "inputs.pickle"


@dataclass(frozen=True)
class Plan:
    """What a worker is told of a build: the working folder, the recipe, how the store is opened, and what redacts.

    It may hold keys, and is sent, never written to a file.
    """

    work: Path
    recipe: Recipe
    watermark: int
    settings: Settings
    redactor: Redacts | None = None


@dataclass
class Site:
    """A place where parts run. The store and what all parts share are opened when first asked for."""

    work: Path
    recipe: Recipe
    watermark: int
    redactor: Redacts | None = None
    _settings: Settings | None = None
    _store: Store | None = None
    _kept: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan) -> Site:
        """The site of a worker."""
        return cls(plan.work, plan.recipe, plan.watermark, plan.redactor, plan.settings)

    @property
    def store(self) -> Store:
        """The store, opened as the settings say. Raises StoreError."""
        if self._store is None:
            assert self._settings is not None
            self._store = open_store(self._settings)
        return self._store

    def share(self, inputs: Any) -> None:
        """Leave what reading needs beside store and recipe where every worker finds it."""
        write_whole(self.work / _INPUTS, pickle.dumps(inputs))
        self._kept[_INPUTS] = inputs

    @property
    def inputs(self) -> Any:
        """What :meth:`share` was given by whoever began the build."""
        return self.keep(_INPUTS, lambda: pickle.loads((self.work / _INPUTS).read_bytes()))  # noqa: S301 - our own

    def keep(self, name: str, make: Callable[[], Any]) -> Any:
        """Something that many parts look at, made once."""
        if name not in self._kept:
            self._kept[name] = make()
        return self._kept[name]

    def close(self) -> None:
        """Close the store, where it was opened here."""
        if self._settings is not None and self._store is not None:
            self._store.close()
            self._store = None


Part: TypeAlias = Callable[[Site, Any], Any]


class Crew(Protocol):
    """Whoever runs the parts of one build. ``size`` is how many run at once, ``lost`` how many workers were lost so far."""

    size: int
    lost: int

    def run(self, part: Part, arguments: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Run a part with each of some arguments, in any order; gives each argument's place and the result as it ends.

        What a worker was at that is lost, another one is given. Raises what a part raises, and DatasetError naming the part
        when that is of no use.
        """


class Alone:
    """Runs parts one after another in this process."""

    size = 1
    lost = 0

    def __init__(self, site: Site) -> None:
        self._site = site

    def run(self, part: Part, arguments: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """See :class:`Crew`."""
        for place, argument in enumerate(arguments):
            yield place, part(self._site, argument)
