"""PostgreSQL's own word on who may see which row, asked over a plain connection that knows nothing of our code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.store.conftest import OpenStore
from tracemill.core.ids import id_bytes, new_id, now
from tracemill.core.records import SCHEMA_VERSION, Feedback, Interaction, Step, User
from tracemill.store.base import Filter
from tracemill.store.engine import APPLICATION_ROLE
from tracemill.store.hot import HotStore
from tracemill.store.tables import metadata


def base(**fields: Any) -> dict[str, Any]:
    return {"id": new_id(), "time": now(), "schema_version": SCHEMA_VERSION, "producer": "t", "sequence": 0, **fields}


def user(name: str) -> User:
    return User(pseudonym=name, key_id="k")


ALICE = Interaction(**base(user=user("alice"), messages=[{"role": "user", "content": "the same beginning " * 20}]))
BOB = Interaction(
    **base(user=user("bob"), messages=[*ALICE.messages, {"role": "assistant", "content": "x"}])
)  # stored as a continuation of Alice's
NOBODY = Interaction(**base())
STEP = Step(**base(interaction_id=ALICE.id))
SAID = Feedback(**base(kind="thumbs_up", interaction_id=BOB.id, user=user("alice")))


@pytest.fixture
def secured(postgres: str, open_at: OpenStore, tmp_path: Path) -> Iterator[tuple[HotStore, Any]]:
    """A filled store and a connection as its owner, who is a superuser here and so must give that up first."""
    import psycopg

    name = f"rls_{abs(hash(str(tmp_path)))}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    address = postgres.replace("/postgres?", f"/{name}?")
    store = open_at(database=address.replace("postgresql://", "postgresql+psycopg://"))
    store.append([ALICE, BOB, NOBODY, STEP, SAID])
    with psycopg.connect(address) as connection:
        yield store, connection


def assume(connection: Any, **values: str) -> None:
    connection.rollback()
    connection.execute(f"SET LOCAL ROLE {APPLICATION_ROLE}")
    for name, value in values.items():
        connection.execute("SELECT set_config(%s, %s, true)", (f"tracemill.{name}", value))


def ids(connection: Any) -> set[bytes]:
    return {bytes(row[0]) for row in connection.execute("SELECT id FROM records")}


def number(connection: Any, pseudonym: str) -> str:
    assume(connection, scope="service")
    return str(connection.execute("SELECT id FROM names WHERE value = %s", (pseudonym,)).fetchone()[0])


def test_the_role_owns_nothing_and_passes_by_nothing(secured: tuple[HotStore, Any]) -> None:
    _, connection = secured
    query = "SELECT rolsuper, rolbypassrls, rolcanlogin, rolcreaterole FROM pg_roles WHERE rolname = %s"
    assert connection.execute(query, (APPLICATION_ROLE,)).fetchone() == (False, False, False, False)
    owned = "SELECT count(*) FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE r.rolname = %s"
    assert connection.execute(owned, (APPLICATION_ROLE,)).fetchone() == (0,)


def test_every_table_forces_it_or_is_closed(secured: tuple[HotStore, Any]) -> None:
    _, connection = secured
    rows = connection.execute(
        "SELECT relname, relrowsecurity, relforcerowsecurity, has_table_privilege(%s, oid, 'SELECT, INSERT, UPDATE, DELETE')"
        " FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm') AND relnamespace = 'public'::regnamespace",
        (APPLICATION_ROLE,),
    ).fetchall()
    assert {row[0] for row in rows} == {*metadata.tables, "alembic_version"}
    for name, enabled, forced, granted in rows:
        assert (enabled and forced) if granted else name == "alembic_version", name


def test_who_does_not_say_for_whom_sees_nothing_and_writes_nothing(secured: tuple[HotStore, Any]) -> None:
    import psycopg

    _, connection = secured
    for name in metadata.tables:
        for values in ({}, {"scope": ""}, {"scope": "admin"}, {"scope": "user"}, {"scope": "user", "person": ""}):
            assume(connection, **values)
            assert connection.execute(f"SELECT count(*) FROM {name}").fetchone() == (0,), (name, values)
            if name != "audit":  # nobody may at all
                assert connection.execute(f"DELETE FROM {name}").rowcount == 0
    for statement in ("DELETE FROM audit", "UPDATE audit SET hash = ''", "TRUNCATE audit"):
        assume(connection, scope="service")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute(statement)
    assume(connection, scope="user", person=number(connection, "alice"))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("INSERT INTO names (value) VALUES ('mallory')")


def test_a_person_sees_their_own_rows_and_what_belongs_to_them(secured: tuple[HotStore, Any]) -> None:
    _, connection = secured
    wanted = {"alice": [ALICE, STEP, SAID], "bob": [BOB, SAID]}
    for name, records in wanted.items():
        assume(connection, scope="user", person=number(connection, name))
        assert ids(connection) == {id_bytes(record.id) for record in records}
        assert connection.execute("SELECT count(*) FROM names").fetchone() == (0,)
        assert connection.execute("UPDATE records SET success = 1").rowcount == 0
        assert connection.execute("DELETE FROM records").rowcount == 0
    assume(connection, scope="service")
    assert len(ids(connection)) == 5


def test_what_was_said_for_one_transaction_is_gone_in_the_next(secured: tuple[HotStore, Any]) -> None:
    _, connection = secured
    assume(connection, scope="service")
    assert len(ids(connection)) == 5
    connection.commit()
    connection.execute(f"SET ROLE {APPLICATION_ROLE}")
    assert ids(connection) == set()


def test_the_store_reads_through_the_policies(secured: tuple[HotStore, Any]) -> None:
    store, _ = secured
    assert {record.id for record in store.scan(Filter(visible_to="bob"))} == {BOB.id, SAID.id}
    assert store.get(BOB.id, visible_to="bob") == BOB  # although its beginning is kept with Alice's
    assert store.get(ALICE.id, visible_to="bob") is None
    assert store.get(ALICE.id, visible_to="nobody") is None
    assert list(store.scan(Filter(visible_to=""))) == []


def test_an_ordinary_login_that_owns_the_database_is_enough(postgres: str, open_at: OpenStore, tmp_path: Path) -> None:
    """No superuser: the policies hold for the owner as well, so everything has to say for whom it works."""
    import psycopg

    name = f"owned_{abs(hash(str(tmp_path)))}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN CREATEROLE")
        connection.execute(f"GRANT {APPLICATION_ROLE} TO {name}") if _exists(connection, APPLICATION_ROLE) else None
        connection.execute(f"CREATE DATABASE {name} OWNER {name}")
    address = postgres.replace("/postgres?", f"/{name}?").replace("//postgres:", f"//{name}:")
    store = open_at(database=address.replace("postgresql://", "postgresql+psycopg://"))
    many = [Interaction(**base(user=user(f"u{n % 7}"), intent=f"words that many share {n} " * 40)) for n in range(600)]
    assert store.append([ALICE, BOB, STEP, SAID, *many]).stored == 604
    assert store.get(BOB.id, visible_to="bob") == BOB
    assert store.count() == 604
    assert store.verify() == []
    assert store.erase([ALICE.id]) == 1
    with psycopg.connect(address) as connection:
        assert connection.execute(
            "SELECT current_user, usesuper FROM pg_user WHERE usename = current_user"
        ).fetchone() == (
            name,
            False,
        )
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (0,)  # the owner says for nobody
        connection.execute("SELECT set_config('tracemill.scope', 'service', true)")
        assert connection.execute("SELECT count(*) > 0 FROM dictionaries").fetchone() == (True,)


def _exists(connection: Any, role: str) -> bool:
    return connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is not None
