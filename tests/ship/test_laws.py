"""Whatever happens in whatever order: what was written is somewhere, and it arrives once."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ship import receiver as behaviours
from tests.ship.receiver import accepts, answers
from tests.ship.test_cycle import Site

NAMES = st.sampled_from(["a.json", "b.json", "t/c.json", "t/u/d.json", "t/lines.jsonl"])
WRITES = st.tuples(NAMES, st.lists(st.integers(0, 999), min_size=1, max_size=400))
TURNS = st.sampled_from(
    [accepts, accepts, answers(500), answers(422), answers(413), answers(202), answers(401), behaviours.resets_midway]
)
LIMITS = st.sampled_from([0, 1500, 10**9])
CYCLES = st.lists(st.tuples(st.lists(WRITES, max_size=4), st.lists(TURNS, min_size=1, max_size=5), LIMITS), max_size=6)


def lines(name: str, numbers: list[int], version: int) -> bytes:
    """A file of records that no other file and no other version holds."""
    records = [json.dumps([name, version, place, number]) for place, number in enumerate(numbers)]
    return "".join(f"{one}\n" for one in records).encode() if name.endswith("l") else f"[{','.join(records)}]".encode()


def records(name: str, content: bytes) -> list[str]:
    values = [json.loads(line) for line in content.splitlines()] if name.endswith("l") else json.loads(content)
    return [json.dumps(value) for value in values]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(CYCLES)
def test_nothing_is_lost_and_nothing_is_sent_twice(
    tmp_path_factory: pytest.TempPathFactory, cycles: list[tuple[list[tuple[str, list[int]]], list[object], int]]
) -> None:
    site = Site(tmp_path_factory.mktemp("law"))
    written: set[str] = set()
    version = 0
    with site.receiver:
        for writes, turns, most in cycles:
            for name, numbers in writes:
                if (site.data / name).exists():
                    continue  # writing over what was not read yet is the writer's own loss
                version += 1
                content = lines(name, numbers, version)
                site.put(name, content)
                written.update(records(name, content))
            site.cycle(*turns, max_package_bytes=2048, max_unsent_bytes=most)  # type: ignore[arg-type]
            there = {record for name in site.left() for record in records(name, (site.data / name).read_bytes())}
            there |= {record for name, content in site.packed() for record in records(name, content)}
            there |= {record for name, content in site.receiver.members for record in records(name, content)}
            assert there == written
        assert site.cycle(accepts, max_package_bytes=2048).ok
        arrived = [record for name, content in site.receiver.members for record in records(name, content)]
        assert sorted(arrived) == sorted(written)
        assert (site.left(), site.packed()) == ([], [])


def _received(site: Site) -> list[tuple[str, bytes]]:
    return site.receiver.members
