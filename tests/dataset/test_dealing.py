"""Every part is done once however workers are lost, and what loses all of them is named in time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.core.errors import DatasetError
from tracemill.dataset.dealing import TRIES, Deal
from tracemill.dataset.site import Site


def weigh_shard(_site: Site, _argument: object) -> None:
    """A part to be named; nobody runs it here."""


@given(parts=st.integers(0, 12), workers=st.integers(1, 5), drawn=st.data())
def test_every_part_is_done_once_and_the_last_try_is_alone(parts: int, workers: int, drawn: st.DataObject) -> None:
    deal = Deal(weigh_shard, range(parts))
    out: list[int] = []
    done: list[int] = []
    losses = dict.fromkeys(range(parts), 0)
    while not deal.finished:
        while len(out) < workers and (place := deal.following()) is not None:
            out.append(place)
            if losses[place] == TRIES - 1:
                assert out == [place]
        assert out, "parts are left and nobody is given one"
        assert not any(losses[place] == TRIES - 1 for place in out) or len(out) == 1
        place = out.pop(drawn.draw(st.integers(0, len(out) - 1)))
        if losses[place] < TRIES - 1 and drawn.draw(st.booleans()):
            losses[place] += 1
            deal.lost(place, "was killed")
        else:
            deal.done(place)
            done.append(place)
    assert sorted(done) == list(range(parts))
    assert deal.following() is None


def test_a_part_that_loses_every_worker_is_named_before_others_are_tried() -> None:
    deal = Deal(weigh_shard, range(7, 10_000))
    for _ in range(TRIES - 1):
        assert deal.following() == 0
        deal.lost(0, "was killed by signal 9")
    assert deal.following() == 0
    with pytest.raises(DatasetError) as caught:
        deal.lost(0, "was killed by signal 9")
    assert caught.value.message == (
        "part 1 of 9993 (weigh shard 7) lost its worker 3 times; the last one was killed by signal 9"
    )
    assert "goes on where it stopped" in caught.value.hint


def test_a_lost_part_comes_before_new_ones() -> None:
    deal = Deal(weigh_shard, ["a", "b", "c"])
    assert [deal.following(), deal.following()] == [0, 1]
    deal.lost(1, "is gone")
    assert deal.following() == 1
    deal.lost(1, "is gone")
    assert deal.following() is None, "its last try waits for the other one to end"
    deal.done(0)
    assert deal.following() == 1
    assert deal.following() is None, "nothing runs beside it"
    with pytest.raises(DatasetError, match=r"^part 2 of 3 \(weigh shard\) lost"):
        deal.lost(1, "is gone")
