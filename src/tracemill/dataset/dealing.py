"""Giving out the parts of a build where workers may be lost: which part is next, and when it is no use to go on.

A part whose worker was lost (killed, out of memory, its machine gone) is given out again before any new one. The last time
nothing runs beside it: if memory ran out, all there is belongs to this part. When its worker is lost then too, the build
ends and names the part, so that what kills every worker ends it after :data:`TRIES` losses and not after all parts.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from tracemill.core.errors import DatasetError
from tracemill.dataset.site import Part

TRIES = 3
"""How often a part is given out at most."""
logger = logging.getLogger("tracemill.dataset")


class Deal:
    """One round of parts: ``part`` with each of some arguments. A place is an argument's index."""

    def __init__(self, part: Part, arguments: Sequence[Any]) -> None:
        self._part, self._arguments = part, arguments
        self._fresh = 0
        self._again: deque[int] = deque()
        self._losses: Counter[int] = Counter()
        self._out: set[int] = set()
        self._alone = False

    @property
    def finished(self) -> bool:
        """Whether every part gave its result."""
        return self._fresh == len(self._arguments) and not self._out and not self._again

    def following(self) -> int | None:
        """A place to give out now; None when none is left, or when others have to end first.

        It is never None while parts are left and none is out.
        """
        if self._alone:
            return None
        if self._again:
            if self._losses[self._again[0]] == TRIES - 1:
                if self._out:
                    return None
                self._alone = True
            place = self._again.popleft()
        elif self._fresh < len(self._arguments):
            place = self._fresh
            self._fresh += 1
        else:
            return None
        self._out.add(place)
        return place

    def done(self, place: int) -> None:
        """The part of a place gave a result."""
        self._out.remove(place)
        self._alone = False

    def lost(self, place: int, how: str) -> None:
        """The worker that was at a place is gone, ``how`` says in which way. Raises DatasetError after the last try."""
        self.done(place)
        self._losses[place] += 1
        if self._losses[place] >= TRIES:
            raise DatasetError(
                f"{self._named(place)} lost its worker {TRIES} times; the last one {how}",
                hint="If memory ran out, set fewer workers; else look for a step that ends its process. "
                "The build goes on where it stopped when it is run again.",
            )
        logger.warning("a worker of the build %s; another one gets %s", how, self._named(place))
        self._again.append(place)

    def _named(self, place: int) -> str:
        """A part for people: what it does, which of how many."""
        argument = self._arguments[place]
        number = f" {argument}" if isinstance(argument, int) else ""
        work = self._part.__name__.strip("_").replace("_", " ")
        return f"part {place + 1} of {len(self._arguments)} ({work}{number})"
