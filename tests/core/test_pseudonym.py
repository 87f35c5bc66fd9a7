"""Pseudonyms hold for one key, and the key is made once and kept close."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tracemill.core.errors import SettingError
from tracemill.core.pseudonym import Pseudonymizer, load_pseudonymizer


def test_the_same_user_is_the_same_pseudonym_and_another_key_another() -> None:
    one, other = Pseudonymizer(b"1" * 32), Pseudonymizer(b"2" * 32)
    assert one.user("ada@example.com") == one.user("ada@example.com")
    assert one.user(7) == one.user("7")
    assert one.user("a").pseudonym != one.user("b").pseudonym
    assert one.user("a").pseudonym != other.user("a").pseudonym
    assert one.key_id != other.key_id


def test_the_raw_id_is_kept_only_when_asked_for() -> None:
    assert Pseudonymizer(b"1" * 32).user("ada").raw_id is None
    assert Pseudonymizer(b"1" * 32, keep_raw=True).user("ada").raw_id == "ada"


def test_any_text_is_an_id() -> None:
    assert len(Pseudonymizer(b"1" * 32).user("\ud800\x00" * 1000).pseudonym) == 64


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = load_pseudonymizer(tmp_path).user("ada")
    assert load_pseudonymizer(tmp_path).user("ada") == first
    key = tmp_path / "keys" / "pseudonym.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in key.parent.iterdir()] == ["pseudonym.key"]


def test_threads_that_race_agree_on_one_key(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(load_pseudonymizer(tmp_path).key_id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.parametrize("content", ["", "zz", "00" * 8])
def test_a_damaged_key_is_an_error_and_is_not_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "keys").mkdir()
    key = tmp_path / "keys" / "pseudonym.key"
    key.write_text(content)
    with pytest.raises(SettingError):
        load_pseudonymizer(tmp_path)
    assert key.read_text() == content
