"""Whatever the receiver, the disk and the writers do: nothing unsent is deleted and nothing is sent twice."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ship import receiver as behaviours
from tests.ship.receiver import Behaviour, Receiver, Request, accepts, answers, reply, under, when_token
from tracemill.ship.cycle import run_cycle
from tracemill.ship.ledger import Ledger
from tracemill.ship.outbox import Outbox
from tracemill.ship.packing import read_package
from tracemill.ship.redaction import redact_json
from tracemill.ship.report import Report
from tracemill.ship.settings import ShipSettings, load_ship_settings
from tracemill.ship.tokens import ManualCredentials

TOKEN = "secret-token"


class Site:
    """A folder that applications write into, a receiver, and the state between them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir()
        (folder / "received").mkdir()
        self.receiver = Receiver(folder=folder / "received")
        self.tokens = [TOKEN]

    def put(self, name: str, content: Any = None) -> Path:
        path = self.data / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content or {"name": name}).encode())
        return path

    def settings(self, **more: Any) -> ShipSettings:
        flags = {
            "data_dir": str(self.data),
            "service_id": "service",
            "ingress_server_url": self.receiver.upload_url,
            "collection_interval": 0,
            "ingress_connection_timeout": 5,
            "quiet_seconds": 0,
            **more,
        }
        return load_ship_settings(flags, environment={})

    def cycle(self, *turns: Behaviour, **more: Any) -> Report:
        """One cycle, with everything opened anew, as in a new process."""
        self.receiver.behaviours = list(turns) or [accepts]
        redaction, stopping = more.pop("redaction", None), more.pop("stopping", lambda: False)
        settings = self.settings(**more)
        settings.state.mkdir(exist_ok=True)
        ledger = Ledger(settings.state / "ledger.db")
        credentials = ManualCredentials(lambda: self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0])
        try:
            return run_cycle(
                settings, credentials, ledger, Outbox(settings.state, ledger), redaction=redaction, stopping=stopping
            )
        finally:
            ledger.close()

    def left(self) -> list[str]:
        """Files in the data folder."""
        return sorted(
            str(path.relative_to(self.data))
            for path in self.data.rglob("*")
            if path.is_file() and ".tracemill-ship" not in path.parts
        )

    def packed(self) -> list[tuple[str, bytes]]:
        """What sealed packages hold; two may hold two versions of one file."""
        packages = (self.data / ".tracemill-ship" / "outbox").iterdir()
        return [(member.name, member.content) for path in packages for member in read_package(path)]

    def outbox(self) -> dict[str, bytes]:
        """The same by name."""
        return dict(self.packed())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    with made.receiver:
        yield made


def test_files_arrive_and_are_deleted(site: Site) -> None:
    names = ["feedback/1.json", "transcripts/u/c/2.json", "lines.jsonl", "top.json"]
    contents = {name: site.put(name, b'{"n": 1}\n').read_bytes() for name in names}
    report = site.cycle()
    assert site.receiver.files == contents
    assert (report.found, report.new, report.packed, report.packages, report.uploaded) == (4, 4, 4, 1, 1)
    assert (report.uploaded_files, report.cleaned, report.request_ids, report.ok) == (4, 4, ["request-1"], True)
    assert site.left() == []
    assert (site.data / "transcripts").is_dir()
    assert not (site.data / "transcripts" / "u").exists()
    assert site.receiver.requests[0].header("Authorization") == f"Bearer {TOKEN}"
    again = site.cycle()
    assert (again.found, again.uploaded, len(site.receiver.requests)) == (0, 0, 1)


def test_without_cleanup_nothing_is_deleted_or_sent_twice(site: Site) -> None:
    site.put("a.json")
    for _ in range(3):
        assert site.cycle(cleanup_after_send=False).ok
    os.utime(site.data / "a.json")  # touched, and still the same
    assert site.cycle(cleanup_after_send=False).skipped == {"sent": 1}
    (site.data / "a.json").rename(site.data / "b.json")  # another name is another file: it may be another conversation
    site.cycle(cleanup_after_send=False)
    assert site.receiver.times == {"a.json": 1, "b.json": 1}
    assert site.left() == ["b.json"]
    assert site.cycle().cleaned == 1  # cleanup is switched on later
    assert (site.left(), len(site.receiver.requests)) == ([], 2)


@pytest.mark.parametrize(
    "turn",
    [
        answers(500),
        answers(503, Retry_After="3"),
        answers(202),
        answers(202, b'{"request_id": null}'),
        answers(200, b'{"request_id": "a"}'),
        answers(301, Location="http://127.0.0.1:1/"),
        answers(404),
        answers(400),
        answers(401),
        behaviours.resets_midway,
        behaviours.floods,
    ],
)
def test_what_is_not_acknowledged_stays_and_is_sent_later(turn: Behaviour, site: Site) -> None:
    site.put("a/1.json")
    failed = site.cycle(turn)
    assert not failed.ok
    assert failed.uploaded == 0
    assert failed.waiting == 1
    assert TOKEN not in json.dumps(failed.as_json())
    assert site.left() == ["a/1.json"]
    tried = len(site.receiver.requests)
    site.put("a/2.json")
    assert site.cycle().uploaded == 2
    if tried:
        assert site.receiver.requests[0].body == site.receiver.requests[tried].body
    assert site.receiver.times == {"a/1.json": 1, "a/2.json": 1}
    assert site.left() == []


def test_a_hanging_receiver_is_given_up(site: Site) -> None:
    site.put("a.json")
    assert not site.cycle(behaviours.hangs, ingress_connection_timeout=0.2).ok
    assert site.left() == ["a.json"]


def test_the_pause_asked_for_is_reported(site: Site) -> None:
    site.put("a.json")
    assert site.cycle(answers(503, Retry_After="17")).wait_seconds == 17


def test_when_the_receiver_fails_nothing_more_is_tried(site: Site) -> None:
    for number in range(5):
        site.put(f"{number}.json", b'"' + b"x" * 600 + b'"')
    report = site.cycle(accepts, answers(500), max_package_bytes=1024)
    assert (len(site.receiver.requests), report.uploaded, report.waiting) == (2, 1, 1)
    assert len(site.left()) == 4
    assert site.cycle(max_package_bytes=1024).uploaded == 4
    assert set(site.receiver.times.values()) == {1}


def test_a_package_that_is_refused_does_not_hold_up_the_others(site: Site) -> None:
    for number in range(3):
        site.put(f"{number}.json", b'"' + b"x" * 600 + b'"')
    report = site.cycle(answers(422), accepts, max_package_bytes=1024)
    assert (report.uploaded, report.waiting, report.ok) == (2, 1, False)
    assert len(site.left()) == 1


def test_a_refused_token_is_read_again_once(site: Site) -> None:
    site.put("a.json")
    site.tokens = ["old", "new", "newer"]
    report = site.cycle(when_token("new"))
    assert report.ok
    assert [request.header("Authorization") for request in site.receiver.requests] == ["Bearer old", "Bearer new"]
    site.put("b.json")
    site.tokens = ["old", "other", "newest"]
    assert not site.cycle(when_token("newest")).ok
    assert len(site.receiver.requests) == 4


def test_without_a_token_nothing_is_asked(site: Site) -> None:
    site.put("a.json")
    site.tokens = [""]
    report = site.cycle()
    assert "no token" in report.problems[0]
    assert site.receiver.requests == []
    assert site.left() == ["a.json"]


def test_half_written_files_wait(site: Site) -> None:
    half = site.put("half.json", b'{"a": [1, 2')
    site.put("half.jsonl", b'{"a": 1}\n{"b"')
    site.put("empty.json", b"\n")
    site.put("whole.json")
    report = site.cycle()
    assert report.skipped == {"incomplete": 3}
    assert (list(site.receiver.files), site.left()) == (["whole.json"], ["empty.json", "half.json", "half.jsonl"])
    half.write_bytes(b'{"a": [1, 2]}')
    site.cycle()
    assert site.receiver.files["half.json"] == b'{"a": [1, 2]}'


def test_a_file_just_written_waits(site: Site) -> None:
    site.put("a.json")
    report = site.cycle(quiet_seconds=60)
    assert (report.skipped, report.found) == ({"not_quiet": 1}, 0)
    assert site.left() == ["a.json"]


def test_a_file_that_changes_while_it_is_uploaded_is_kept_and_sent_again(site: Site) -> None:
    path = site.put("a.json", b'{"version": 1}')
    replaced = site.put("b.json", b'{"version": 1}')

    def changes(receiver: Receiver, connection: socket.socket, request: Request) -> None:
        path.write_bytes(b'{"version": 2}')
        replaced.with_suffix(".tmp").write_bytes(b'{"version": 3}')
        replaced.with_suffix(".tmp").rename(replaced)
        accepts(receiver, connection, request)

    report = site.cycle(changes)
    assert (report.uploaded, report.cleaned) == (1, 0)
    assert path.read_bytes() == b'{"version": 2}'
    assert site.cycle().cleaned == 2
    assert site.receiver.files == {"a.json": b'{"version": 2}', "b.json": b'{"version": 3}'}
    assert site.left() == []


def test_the_answer_is_lost_and_the_receiver_knows_the_bytes_again(site: Site) -> None:
    site.put("a.json")
    assert not site.cycle(behaviours.keeps_and_breaks_off).ok
    assert site.cycle().ok
    bodies = {hashlib.sha256(request.package).hexdigest() for request in site.receiver.requests}
    assert (len(site.receiver.requests), len(bodies)) == (2, 1)
    assert site.left() == []


def test_links_and_odd_names_are_not_followed(site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text("{}")
    (site.data / "link.json").symlink_to(tmp_path / "secret.json")
    (site.data / "linked").symlink_to(tmp_path)
    site.put("x\\..\\up.json")
    site.put("good.json")
    report = site.cycle()
    assert report.skipped == {"symlink": 2, "unsafe_name": 1}
    assert list(site.receiver.files) == ["good.json"]
    assert (tmp_path / "secret.json").exists()


def test_only_the_folders_that_are_named(site: Site) -> None:
    site.put("feedback/a.json")
    site.put("private/b.json")
    report = site.cycle(allowed_subdirs=["feedback"])
    assert (list(site.receiver.files), report.skipped) == (["feedback/a.json"], {"not_allowed_subdir": 1})


def test_what_names_a_person_stays_here(site: Site) -> None:
    site.put("a.json", b'{"mail": "ada@example.org", "n": 1.50}')
    site.put("b.json", b'["\xff"]'.replace(b"\xff", b"ok"))
    assert site.cycle(redaction=redact_json).ok
    assert site.receiver.files == {"a.json": b'{"mail": "[EMAIL]", "n": 1.50}', "b.json": b'["ok"]'}
    assert site.left() == []
    site.put("c.json", b'["fine"]')
    report = site.cycle(redaction=lambda _: b"{")
    assert (report.ok, report.skipped, site.left()) == (False, {"not_redacted": 1}, ["c.json"])
    assert "c.json" not in site.receiver.files


def test_stopped_between_packages(site: Site) -> None:
    for number in range(5):
        site.put(f"{number}.json", b'"' + b"x" * 600 + b'"')
    report = site.cycle(max_package_bytes=1024, stopping=lambda: bool(site.receiver.requests))
    assert (len(site.receiver.requests), report.uploaded, report.stopped, len(site.left())) == (1, 1, True, 4)


def test_too_large_for_the_receiver_is_halved(site: Site) -> None:
    values = [[os.urandom(30).hex() for _ in range(1150)] for _ in range(6)]
    for number, value in enumerate(values):
        site.put(f"{number}.json", value)
    report = site.cycle(under(70_000))
    assert report.ok
    assert report.uploaded > 2
    assert site.left() == []
    assert {name: json.loads(content) for name, content in site.receiver.files.items()} == {
        f"{number}.json": value for number, value in enumerate(values)
    }


def test_a_single_file_too_large_for_the_receiver_is_cut_or_set_aside(site: Site) -> None:
    values = [os.urandom(30).hex() for _ in range(4000)]
    site.put("list.json", values)
    site.put("one.json", {"text": os.urandom(100_000).hex()})
    report = site.cycle(under(90_000))
    parts = [json.loads(content) for name, content in sorted(site.receiver.files.items())]
    assert [value for part in parts for value in part] == values
    assert (site.left(), len(report.set_aside)) == (["one.json"], 1)
    assert (site.cycle(under(90_000)).skipped, site.outbox()) == ({"set_aside": 1}, {})
    (kept,) = (site.data / ".tracemill-ship" / "set-aside").iterdir()
    kept.rename(kept.parent.parent / "outbox" / kept.name)  # the receiver takes larger ones now
    assert site.cycle().ok
    assert (site.left(), "one.json" in site.receiver.files) == ([], True)


def test_a_receiver_for_which_everything_is_too_large_gets_nothing_set_aside(site: Site) -> None:
    site.put("a.json")
    report = site.cycle(answers(413))
    assert (report.ok, report.set_aside, report.waiting, site.left()) == (False, [], 1, ["a.json"])


def test_files_over_the_limit_are_cut_or_set_aside(site: Site) -> None:
    values = [{"n": number, "text": "x" * 50} for number in range(100)]
    site.put("t/list.json", values)
    site.put("t/lines.jsonl", b"".join(json.dumps(value).encode() + b"\n" for value in values))
    site.put("t/one.json", {"text": "x" * 3000})
    site.put("t/half.json", json.dumps(values).encode()[:-20])
    report = site.cycle(max_package_bytes=2048)
    assert report.ok
    assert report.skipped == {"incomplete": 1}
    assert site.left() == ["t/half.json"]
    received = sorted(site.receiver.files.items())
    assert [value for name, part in received if name.endswith(".json") for value in json.loads(part)] == values
    assert [
        json.loads(line) for name, part in received if name.endswith(".jsonl") for line in part.splitlines()
    ] == values
    assert all(len(part) <= 2048 for _, part in received)
    kept = site.data / ".tracemill-ship" / "set-aside" / "t" / "one.json"
    assert json.loads(kept.read_bytes()) == {"text": "x" * 3000}
    assert str(kept) in report.set_aside[0]


def test_a_cut_file_goes_when_all_its_parts_have_arrived(site: Site) -> None:
    values = [{"n": number, "text": "x" * 50} for number in range(100)]
    site.put("list.json", values)
    report = site.cycle(accepts, accepts, answers(500), max_package_bytes=2048)
    assert (report.uploaded, report.cleaned, site.left()) == (2, 0, ["list.json"])
    assert site.cycle(max_package_bytes=4096).cleaned == 1  # the limit is another now: the parts are what they were
    assert set(site.receiver.times.values()) == {1}
    parts = [json.loads(content) for _, content in sorted(site.receiver.files.items())]
    assert [value for part in parts for value in part] == values


def test_without_cleanup_a_file_over_the_limit_is_left_and_reported(site: Site) -> None:
    site.put("one.json", {"text": "x" * 3000})
    report = site.cycle(max_package_bytes=2048, cleanup_after_send=False)
    assert (report.skipped, site.left()) == ({"too_large": 1}, ["one.json"])


def test_the_disk_is_kept_from_filling_and_nothing_unsent_is_lost(site: Site) -> None:
    contents = {}
    for number in range(10):
        path = site.put(f"a/{number}.json", {"text": "x" * 900, "n": number})
        os.utime(path, (1000 + number, 1000 + number))
        contents[f"a/{number}.json"] = path.read_bytes()
    report = site.cycle(answers(503), max_package_bytes=2048, max_unsent_bytes=4500)
    assert report.compressed == 6
    assert site.left() == [f"a/{number}.json" for number in range(6, 10)]  # the oldest were packed
    assert {**site.outbox(), **{name: (site.data / name).read_bytes() for name in site.left()}} == contents
    site.cycle(answers(503), max_package_bytes=2048, max_unsent_bytes=0)
    assert (site.left(), site.outbox()) == ([], contents)
    assert site.cycle().ok
    assert (site.receiver.files, set(site.receiver.times.values())) == (contents, {1})


def test_a_full_disk_costs_nothing_when_files_are_not_ours_to_delete(site: Site) -> None:
    site.put("a.json")
    report = site.cycle(answers(503), max_unsent_bytes=0, cleanup_after_send=False)
    assert (report.compressed, site.left()) == (0, ["a.json"])


def test_a_disk_without_room_for_a_package_is_emptied_by_smaller_ones(site: Site) -> None:
    texts = {f"{number}.json": os.urandom(30_000).hex() for number in range(30)}
    for name, text in texts.items():
        site.put(name, {"text": text})
    site.put("half.json", b"[")
    site.cycle(stopping=lambda: True)  # the ledger is made, for which there is room
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))  # no package of ten files fits
    try:
        report = site.cycle(_accepts_in_memory)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (report.problems, report.uploaded_files, report.skipped) == ([], 30, {"incomplete": 1})
    assert report.uploaded > 3
    assert site.left() == ["half.json"]


def _accepts_in_memory(receiver: Receiver, connection: socket.socket, request: Request) -> None:
    """Accept without writing anything: the limit of the test is this process's too."""
    reply(connection, 202, b'{"request_id": "a"}')


def test_a_package_damaged_on_the_disk_is_made_anew(site: Site) -> None:
    site.put("a.json")
    site.cycle(answers(503))
    (package,) = (site.data / ".tracemill-ship" / "outbox").iterdir()
    package.write_bytes(package.read_bytes()[:-5])
    report = site.cycle()
    assert "damaged" in report.problems[0]
    assert (list(site.receiver.files), site.left()) == (["a.json"], [])


def test_no_file_gives_way_to_a_package_that_was_damaged(site: Site) -> None:
    site.put("a.json")

    def damages(_receiver: Receiver, connection: socket.socket, _request: Request) -> None:
        (package,) = (site.data / ".tracemill-ship" / "outbox").iterdir()
        package.write_bytes(package.read_bytes()[:-5])
        reply(connection, 500)

    assert (site.cycle(damages, max_unsent_bytes=0).compressed, site.left()) == (0, ["a.json"])
    site.cycle()
    assert (list(site.receiver.files), site.left()) == (["a.json"], [])


def test_ten_thousand_small_files(site: Site) -> None:
    for number in range(10_000):
        site.put(f"t/{number % 50}/{number}.json")
    report = site.cycle(max_package_bytes=100_000)
    assert (report.found, report.uploaded_files, report.cleaned) == (10_000, 10_000, 10_000)
    assert report.uploaded > 1
    assert (len(site.receiver.files), set(site.receiver.times.values()), site.left()) == (10_000, {1}, [])


def test_a_data_folder_that_went_away_is_a_problem(site: Site) -> None:
    settings = site.settings(state_dir=str(site.folder / "state"))
    settings.state.mkdir()
    ledger = Ledger(settings.state / "ledger.db")
    site.data.rmdir()
    report = run_cycle(settings, ManualCredentials(lambda: TOKEN), ledger, Outbox(settings.state, ledger))
    ledger.close()
    assert "FileNotFoundError" in report.problems[0]


def test_unreadable_and_undeletable_files_are_reported(site: Site) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read and delete everything")
    site.put("a/1.json").chmod(0)
    site.put("b/2.json")
    (site.data / "b").chmod(0o500)
    report = site.cycle()
    (site.data / "b").chmod(0o700)
    assert report.skipped == {"unreadable": 1}
    assert "cannot be deleted" in report.problems[0]


def test_a_reply_without_a_body_is_no_acknowledgement(site: Site) -> None:
    site.put("a.json")
    assert not site.cycle(lambda _receiver, connection, _request: reply(connection, 202, b"")).ok
