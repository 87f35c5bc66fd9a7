"""Bad records planted among the real trajectories are found, and the real ones are left alone, also where nobody looked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benches import planted
from benches.planted import HALVES, Found, Half
from tracemill.core.records import Interaction
from tracemill.quality import text as rules
from tracemill.quality.text import is_refusal

FOUND, DROPPED = 0.95, 0.02


@pytest.fixture(scope="module")
def halves(shared_data: Path) -> dict[Half, list[Interaction]]:  # skips where they are not at hand
    records = planted.real()
    return {half: [record for record in records if planted.half_of(record) == half] for half in HALVES}


def _check(measured: Found) -> None:
    assert measured.share() >= FOUND, Counter(name for name, _ in measured.missed)
    assert len(measured.dropped) <= DROPPED * measured.real


def test_no_task_is_in_both_halves(halves: dict[Half, list[Interaction]]) -> None:
    tasks = [{record.task_id for record in records} for records in halves.values()]
    assert not tasks[0] & tasks[1]
    assert min(map(len, tasks)) >= 20
    assert sum(map(len, halves.values())) == 200


@pytest.mark.parametrize("half", HALVES)
def test_planted_defects_are_found_and_the_real_are_left_alone(
    halves: dict[Half, list[Interaction]], half: Half
) -> None:
    measured = planted.measure(planted.bad_records(halves[half]), halves[half])
    assert min(measured.planted.values()) >= 100
    _check(measured)
    for name, count in measured.planted.items():
        assert measured.found[name] / count >= (0.8 if name == "refused" else 0.9), name


@pytest.mark.parametrize("half", HALVES)
def test_planted_copies_are_found_and_the_real_are_left_alone(
    halves: dict[Half, list[Interaction]], half: Half
) -> None:
    _check(planted.measure_copies(halves[half]))


@pytest.mark.parametrize("half", HALVES)
def test_planted_secrets_are_found_and_the_real_are_left_alone(
    halves: dict[Half, list[Interaction]], half: Half
) -> None:
    pytest.importorskip("re2")
    _check(
        planted.measure(planted.bad_records(halves[half], (planted.with_a_secret,)), halves[half], planted.has_secret)
    )


def test_known_wordings_are_found_and_the_others_are_others() -> None:
    assert all(map(is_refusal, planted.KNOWN_REFUSALS))
    assert not set(planted.KNOWN_REFUSALS) & set(planted.OTHER_REFUSALS)


def test_another_limit_lasts_no_longer_than_its_block(halves: dict[Half, list[Interaction]]) -> None:
    records = halves["looked at"]
    bad = [(name, record) for name, record in planted.bad_records(records) if name == "called_again"]
    with planted.other_limit(rules, "LOOP", 9):
        assert planted.measure(bad, []).share() < 0.1  # a real one has another defect
    assert planted.measure(bad, []).share() == 1
