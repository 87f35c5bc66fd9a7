"""The audit log: appended by many at once, changed by nobody, and whoever tampers is found out."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from tracemill.core.audit import BEGINNING, canonical, chained
from tracemill.core.errors import SettingError
from tracemill.core.settings import load_settings
from tracemill.privacy.audit import HEADS, AuditLog
from tracemill.privacy.signing import load_signer, signature_holds
from tracemill.store.tiered import TieredStore, open_store


def open_log(folder: Path, **given: Any) -> tuple[TieredStore, AuditLog]:
    store = open_store(load_settings({"workspace": str(folder), **given}, environment={}))
    return store, AuditLog(store, folder, load_signer(folder))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    store, log = open_log(tmp_path)
    for number in range(6):
        log.record("erase" if number % 2 else "archive", f"t{number}", actor="tests", records=number)
    assert log.verify() == []
    assert [entry.number for entry in log.entries()] == [1, 2, 3, 4, 5, 6]
    store.close()
    return tmp_path


def tamper(folder: Path, *statements: str) -> list[str]:
    """Change the table as somebody who owns the database can: without its triggers."""
    connection = sqlite3.connect(folder / "store.db")
    connection.execute("DROP TRIGGER audit_no_update")
    connection.execute("DROP TRIGGER audit_no_delete")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return problems_of(folder)


def problems_of(folder: Path) -> list[str]:
    store, log = open_log(folder)
    found = log.verify()
    store.close()
    return found


def test_the_database_refuses_to_change_an_entry(written: Path) -> None:
    connection = sqlite3.connect(written / "store.db")
    for statement in ("UPDATE audit SET body = x'00'", "DELETE FROM audit WHERE number = 2"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


def test_a_changed_entry_is_found(written: Path) -> None:
    assert (
        "entry 3 is not what was written"
        in tamper(written, "UPDATE audit SET body = CAST(body || x'00' AS BLOB) WHERE number = 3")[0]
    )


def test_a_removed_entry_is_found(written: Path) -> None:
    assert "entries 3 to 3 are missing" in tamper(written, "DELETE FROM audit WHERE number = 3")[0]


def test_a_log_that_was_cut_off_is_found(written: Path) -> None:
    assert tamper(written, "DELETE FROM audit WHERE number > 4") == [
        "the log ends at entry 4; a signed head names entry 6"
    ]


def test_entries_that_changed_places_are_found(written: Path) -> None:
    swap = ("SET number = -2 WHERE number = 2", "SET number = 2 WHERE number = 4", "SET number = 4 WHERE number = -2")
    assert len(tamper(written, *(f"UPDATE audit {change}" for change in swap))) >= 2


def test_a_log_written_anew_is_found_by_its_signed_heads(written: Path) -> None:
    store, log = open_log(written)
    entries = list(log.entries())
    store.close()
    statements, previous = [], BEGINNING
    for entry in entries:
        body = canonical(type(entry)(**{**{f: getattr(entry, f) for f in entry.__struct_fields__}, "actor": "nobody"}))
        previous = chained(previous, body)
        statements.append(
            f"UPDATE audit SET body = x'{body.hex()}', hash = x'{previous.hex()}' WHERE number = {entry.number}"
        )
    assert all("the log was rewritten" in problem for problem in tamper(written, *statements))


def test_heads_that_are_gone_or_forged_are_found(written: Path) -> None:
    heads = written / HEADS
    lines = heads.read_bytes().splitlines(keepends=True)
    heads.write_bytes(b"".join([lines[0].replace(b'"number":1', b'"number":2'), *lines[1:], b"{}\n"]))
    found = problems_of(written)
    assert any("signature that does not hold" in problem for problem in found)
    assert any("is no signed head" in problem for problem in found)
    heads.unlink()
    assert "nothing proves" in problems_of(written)[0]
    (written / "keys" / "signing.pem").unlink()
    heads.write_bytes(b"".join(lines))
    assert all("signed with another key" in problem for problem in problems_of(written))


def test_the_key_is_the_owners_alone_and_its_public_half_checks_signatures(tmp_path: Path) -> None:
    signer = load_signer(tmp_path)
    path = tmp_path / "keys" / "signing.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_signer(tmp_path).public == signer.public
    signature = signer.sign(b"a receipt")
    assert signature_holds(signer.public, b"a receipt", signature)
    assert not signature_holds(signer.public, b"a receipt!", signature)
    assert not signature_holds(signer.public, b"a receipt", "zz")
    path.write_text("nonsense")
    with pytest.raises(SettingError, match="cannot be used"):
        load_signer(tmp_path)


def _append(folder: str, database: str, number: int) -> None:
    store, log = open_log(Path(folder), database=database)
    for turn in range(20):
        log.record("test", f"{number}-{turn}", actor=f"process {number}")
    store.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_many_processes_append_one_chain(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    database = request.getfixturevalue("postgres") if kind == "postgres" else ""
    store, log = open_log(tmp_path, database=database)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append, args=(str(tmp_path), database, number)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    entries = list(log.entries())
    assert [entry.number for entry in entries] == list(range(1, 81))
    assert {entry.target for entry in entries} == {f"{number}-{turn}" for number in range(4) for turn in range(20)}
    assert log.verify() == []
    store.close()
