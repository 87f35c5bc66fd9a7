"""The command as it runs in a container: killed, stopped, started twice, with nobody there."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import environment
from tests.ship.receiver import Behaviour, Receiver, Request, accepts, answers, hangs, reply
from tests.ship.test_cycle import Site
from tests.ship.test_tokens import AUTHS, SECRET, jwt
from tracemill.core.ids import new_id

TOKEN = "secret-token"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    with made.receiver:
        yield made


def command(site: Site, *arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", "tracemill", "ship", "--data-dir", str(site.data), "--service-id", "service"),
        *("--ingress-server-url", site.receiver.upload_url, "--quiet-seconds", "0", *arguments),
    ]


def started(site: Site, *arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(site, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=site.folder,
        env=environment(INGRESS_SERVER_AUTH_TOKEN=TOKEN, **more),
    )


def ended(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=60)
    assert TOKEN not in out + err
    assert process.returncode == code, err
    return out, err


def run(site: Site, *arguments: str, code: int = 0, **more: str) -> tuple[str, str]:
    return ended(started(site, "--collection-interval", "0", *arguments, **more), code)


def wait_for(holds: Callable[[], object]) -> None:
    for _ in range(2000):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError("it never came to that")


def keeps_and_hangs(receiver: Receiver, connection: socket.socket, request: Request) -> None:
    """Keep it and never say so: the client is killed meanwhile."""
    receiver.keep(request)
    hangs(receiver, connection, request)


def answers_when(event_of: Callable[[], bool]) -> Behaviour:
    """Accept, but only once something has happened."""

    def turn(receiver: Receiver, connection: socket.socket, request: Request) -> None:
        wait_for(event_of)
        accepts(receiver, connection, request)

    return turn


def test_once_in_words_and_as_json(site: Site) -> None:
    site.put("feedback/a.json")
    site.put("other/a.json")
    site.put("third/a.json")
    out, _ = run(site, "--allowed-subdirs", "feedback", "other", "--no-cleanup")
    assert "2 uploaded in 1 packages" in out
    out, _ = run(site, "--json")
    report = json.loads(out)
    assert (report["ok"], report["found"], report["cleaned"], report["uploaded_files"]) == (True, 3, 3, 1)
    assert report["skipped"] == {"sent": 2}
    assert set(site.receiver.times.values()) == {1}
    assert site.left() == []


def test_once_with_nobody_there(site: Site) -> None:
    site.put("a.json")
    site.receiver.behaviours = [answers(500)]
    _, err = run(site, code=1)
    assert "status 500" in err
    assert site.left() == ["a.json"]


def test_names_that_are_no_text_are_reported(site: Site) -> None:
    Path(os.fsdecode(bytes(site.data) + b"/\xff\x1b[31m.json")).write_bytes(b"{}")
    out, err = run(site, "--json", "--rich-logs", "--log-level", "DEBUG")
    assert json.loads(out)["skipped"] == {"unsafe_name": 1}
    assert "\x1b" not in out + err


def test_once_takes_what_was_written_just_now(site: Site) -> None:
    site.put("a.json")
    run(site, "--quiet-seconds", "1")
    assert list(site.receiver.files) == ["a.json"]


def test_the_settings_are_shown_without_secrets(site: Site) -> None:
    config = site.folder / "config.yaml"
    config.write_text("identity_id: me\ningress_server_auth_token: hush\nretry_interval: 7\n")
    out, err = run(site, "--config", str(config), "--client-secret", "hush", "--print-config-and-exit")
    shown = json.loads(out)
    assert (shown["identity_id"], shown["retry_interval"], shown["client_secret"]) == ("me", 7, "(set)")
    assert "hush" not in out + err
    assert site.receiver.requests == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--mode", "magic"), 1, "mode"),
        (("--data-dir", "/nowhere/at/all"), 1, "no folder"),
        (("stray",), 2, "unexpected argument"),
        (("--unheard-of",), 2, "No such option"),
        (("--config", "nowhere.yaml"), 1, "cannot be read"),
        (("--ingress-server-url", "http://example.com/"), 1, "unencrypted"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], code: int, says: str, site: Site) -> None:
    site.put("a.json")
    out, err = run(site, *arguments, code=code)
    assert says in out + err
    assert "Traceback" not in err
    assert site.left() == ["a.json"]


def test_killed_between_the_upload_and_the_ledger(site: Site) -> None:
    for number in range(3):
        site.put(f"{number}.json")
    site.receiver.behaviours = [keeps_and_hangs, accepts]
    process = started(site, "--collection-interval", "0")
    wait_for(lambda: len(site.receiver.files) == 3)
    process.kill()
    process.communicate()
    assert len(site.left()) == 3
    run(site)
    run(site)
    first, second = site.receiver.requests
    assert first.package == second.package  # whoever knows packages by their bytes sees one
    assert (set(site.receiver.times.values()), site.left()) == ({2}, [])


def test_killed_at_any_time(site: Site) -> None:
    chance = random.Random(7)
    contents = {}
    for number in range(300):
        name = f"t/{number % 7}/{number}.json"
        contents[name] = site.put(name, {"n": number, "text": "x" * 300}).read_bytes()
    config = site.folder / "config.yaml"
    config.write_text("max_package_bytes: 4096\n")
    kills = 0
    while site.left() and kills < 15:
        before = len(site.receiver.requests)
        process = started(site, "--collection-interval", "0", "--config", str(config))
        wanted = before + chance.randint(1, 4)
        wait_for(lambda: len(site.receiver.requests) >= wanted or process.poll() is not None)  # noqa: B023 - used at once
        time.sleep(chance.random() * 0.02)
        kills += process.poll() is None
        process.kill()
        process.communicate()
    run(site, "--config", str(config))
    assert kills > 5
    assert site.receiver.files == contents
    packages = [request.package for request in site.receiver.requests]
    assert len(packages) - len(set(packages)) <= kills
    assert sum(site.receiver.times.values()) - 300 <= kills * 12
    assert site.left() == []
    assert list((site.data / ".tracemill-ship" / "outbox").iterdir()) == []


def test_two_at_once(site: Site) -> None:
    site.put("a.json")
    release = site.folder / "release"
    site.receiver.behaviours = [answers_when(release.exists)]
    first = started(site, "--collection-interval", "0")
    wait_for(lambda: site.receiver.requests)
    _, err = run(site, code=1)
    assert "another `tracemill ship` works in" in err
    release.touch()
    ended(first)
    assert site.receiver.times == {"a.json": 1}


def test_told_to_end_during_an_upload(site: Site) -> None:
    site.put("a.json")
    release = site.folder / "release"
    site.receiver.behaviours = [answers_when(release.exists), accepts]
    process = started(site, "--collection-interval", "3600")
    wait_for(lambda: site.receiver.requests)
    site.put("b.json")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    release.touch()
    ended(process)
    assert site.receiver.times == {"a.json": 1, "b.json": 1}
    assert site.left() == []


def test_interrupted_during_an_upload(site: Site) -> None:
    site.put("a.json")
    release = site.folder / "release"
    site.receiver.behaviours = [answers_when(release.exists), accepts]
    process = started(site, "--collection-interval", "3600")
    wait_for(lambda: site.receiver.requests)
    site.put("b.json")
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    release.touch()
    ended(process)
    assert (site.receiver.times, site.left()) == ({"a.json": 1}, ["b.json"])


def test_it_goes_on_after_failures_and_ships_a_last_time(site: Site) -> None:
    site.put("a.json")
    site.receiver.behaviours = [answers(500), answers(503), accepts]
    process = started(site, "--collection-interval", "3600", "--retry-interval", "0.05")
    wait_for(lambda: site.left() == [])
    site.put("late.json")
    process.send_signal(signal.SIGTERM)
    _, err = ended(process)
    assert "status 500" in err
    assert site.receiver.times == {"a.json": 1, "late.json": 1}


def test_single_sign_on(site: Site) -> None:
    site.put("a.json")
    access = jwt(preferred_username="service-account-1")

    def turn(receiver: Receiver, connection: socket.socket, request: Request) -> None:
        if request.path == "/sso":
            reply(connection, 200, json.dumps({"access_token": access}).encode())
        elif request.path == "/accounts":
            reply(connection, 200, json.dumps(AUTHS).encode())
        else:
            accepts(receiver, connection, request)

    site.receiver.behaviours = [turn]
    config = site.folder / "config.yaml"
    config.write_text(f"sso_url: {site.receiver.url}/sso\nsso_accounts_url: {site.receiver.url}/accounts\n")
    out, err = run(
        site, "--mode", "sso", "--config", str(config), "--log-level", "debug", CLIENT_ID="a", CLIENT_SECRET="hush"
    )
    assert not any(secret in out + err for secret in ("hush", access, "receiver-token"))
    upload = site.receiver.requests[-1]
    assert upload.header("Authorization") == "Bearer receiver-token"
    assert upload.header("User-Agent").endswith("cluster/service-account-1")


def test_in_a_cluster(site: Site) -> None:
    site.put("a.json")
    (site.folder / "account").write_text("account-token")

    def turn(receiver: Receiver, connection: socket.socket, request: Request) -> None:
        if request.path.endswith("/pull-secret"):
            reply(connection, 200, json.dumps(SECRET).encode())
        elif request.path.endswith("/version"):
            reply(connection, 200, b'{"spec": {"clusterID": "cluster-1"}}')
        else:
            accepts(receiver, connection, request)

    site.receiver.behaviours = [turn]
    config = site.folder / "config.yaml"
    config.write_text(f"kubernetes_url: {site.receiver.url}\nkubernetes_token_file: {site.folder}/account\n")
    run(site, "--mode", "openshift", "--config", str(config))
    upload = site.receiver.requests[-1]
    assert upload.header("Authorization") == "Bearer receiver-token"
    assert upload.header("User-Agent").endswith("cluster/cluster-1")


def test_lightspeeds_section_in_the_configuration_of_tracemill(site: Site) -> None:
    site.put("feedback/a.json")
    (site.folder / "tracemill.yaml").write_text(
        "user_data_collection:\n  data_collector:\n    ingress_content_service_name: lightspeed\n"
        f"    ingress_server_url: {site.receiver.upload_url}\n    cleanup_after_send: false\n"
    )
    process = subprocess.run(
        [sys.executable, "-m", "tracemill", "ship", "--data-dir", str(site.data), "--collection-interval", "0",
         "--quiet-seconds", "0"],
        cwd=site.folder, env=environment(INGRESS_SERVER_AUTH_TOKEN=TOKEN), capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert TOKEN.encode() not in process.stdout + process.stderr
    assert b"application/vnd.redhat.lightspeed.periodic+tar" in site.receiver.requests[0].body
    assert site.left() == ["feedback/a.json"]


def test_what_names_a_person_stays_here(site: Site) -> None:
    site.put("a.json", b'["ada@example.org"]')
    run(site, "--redact")
    assert site.receiver.files == {"a.json": b'["[EMAIL]"]'}


SPOOL = """
import os, signal, sys
from pathlib import Path
from tracemill.core import codec
from tracemill.core.ids import now
from tracemill.core.records import Interaction
from tracemill.sdk.spool import ProducerFolder

folder = ProducerFolder.create(Path(sys.argv[1]), "producer")
segment = folder.new_segment(1 << 20)
for identity in sys.stdin.read().split():
    segment.append(codec.encode(Interaction(id=identity, time=now(), schema_version=1, producer="p", sequence=0)))
os.kill(os.getpid(), signal.SIGKILL)
"""


def spooled(site: Site, count: int) -> list[str]:
    """The ids of records that a process left in the spool when it was killed."""
    ids = [new_id() for _ in range(count)]
    found = subprocess.run(
        [sys.executable, "-c", SPOOL, str(site.folder / "tracemill-data")],
        input=" ".join(ids), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == -signal.SIGKILL, found.stderr
    return ids


def ship_spool(site: Site, code: int = 0) -> dict[str, Any]:
    found = subprocess.run(
        [sys.executable, "-m", "tracemill", "ship", "--spool", "--service-id", "s", "--collection-interval", "0",
         "--ingress-server-url", site.receiver.upload_url, "--json"],
        cwd=site.folder, env=environment(INGRESS_SERVER_AUTH_TOKEN=TOKEN), capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert found.returncode == code, found.stderr
    report: dict[str, Any] = json.loads(found.stdout)
    return report


def received_ids(site: Site) -> list[str]:
    return [json.loads(line)["id"] for content in site.receiver.files.values() for line in content.splitlines()]


def test_records_of_the_spool(site: Site) -> None:
    ids = spooled(site, 2500)
    site.receiver.behaviours = [accepts, answers(500)]
    assert ship_spool(site, 1)["ok"] is False
    assert len(received_ids(site)) == 1000
    site.receiver.behaviours = [accepts]
    report = ship_spool(site)
    assert sorted(received_ids(site)) == sorted(ids)
    assert set(site.receiver.times.values()) == {1}
    assert all(name.startswith("records/") and name.endswith(".jsonl") for name in site.receiver.files)
    assert report["records"] == 1500
    assert ship_spool(site)["uploaded"] == 0
    assert not (site.folder / "tracemill-data" / "spool" / "producer").exists()


def test_the_spool_keeps_what_was_not_acknowledged(site: Site) -> None:
    ids = spooled(site, 10)
    site.receiver.behaviours = [answers(202)]
    for _ in range(2):
        ship_spool(site, 1)
        assert (site.folder / "tracemill-data" / "spool" / "producer").exists()
    site.receiver.behaviours = [accepts]
    ship_spool(site)
    assert sorted(received_ids(site)) == sorted(ids)
