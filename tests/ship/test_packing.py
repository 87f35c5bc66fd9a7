"""What is unpacked equals what was found, always by the same bytes; what is cut gives the same records."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.core.errors import SourceError
from tracemill.ship.packing import Member, is_whole, name_problem, read_package, split, write_package

NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80), min_size=1, max_size=4
).map("/".join)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(NAMES.filter(lambda name: not name_problem(name)), st.binary(max_size=3000), max_size=8))
def test_what_is_unpacked_is_what_was_packed(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("packages")
    members = [Member(name, files[name]) for name in sorted(files)]
    first = write_package(folder / "one.tgz", members)
    assert list(read_package(folder / "one.tgz")) == members
    assert write_package(folder / "two.tgz", members) == first
    with tarfile.open(folder / "one.tgz") as archive:
        for head in archive:
            assert (head.uid, head.gid, head.mtime, head.uname, head.isreg()) == (0, 0, 0, "", True)
            assert os.path.normpath(head.name) == head.name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "../a",
        "a/../b",
        "a//b",
        "a/",
        "./a",
        "..",
        "a\\b",
        "a\nb",
        "a\0",
        "\ud800",
        "x" * 256,
        "a/" * 600 + "b",
    ],
)
def test_names_that_no_receiver_should_see(name: str, tmp_path: Path) -> None:
    assert name_problem(name)
    with pytest.raises(ValueError, match="name in order"):
        write_package(tmp_path / "a.tgz", [Member(name, b"")])


def test_names_come_in_order_and_once(tmp_path: Path) -> None:
    for number, names in enumerate((["b", "a"], ["a", "a"])):
        with pytest.raises(ValueError, match="name in order"):
            write_package(tmp_path / f"{number}.tgz", [Member(name, b"") for name in names])


def test_a_package_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        write_package(tmp_path / "a.tgz", [])
    assert (tmp_path / "a.tgz").read_bytes() == b"precious"


def test_a_damaged_package_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    write_package(path, [Member("a.json", os.urandom(5000))])
    whole = path.read_bytes()
    for broken in (whole[:2000], b"nothing", gzip.compress(b"no tar at all" * 100)):
        path.write_bytes(broken)
        with pytest.raises(SourceError, match=r"a\.tgz"):
            list(read_package(path))


def test_a_package_with_a_link_is_none_of_ours(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        head = tarfile.TarInfo("a.json")
        head.type, head.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(head)
    with pytest.raises(SourceError, match="no package of ours"):
        list(read_package(tmp_path / "a.tgz"))


@pytest.mark.parametrize(
    ("name", "content", "whole"),
    [
        ("a.json", b'{"a": 1}', True),
        ("a.json", b'{"a": NaN}', True),
        ("a.json", b'{"a": "\\ud800"}', True),
        ("a.json", b'{"a": 1', False),
        ("a.json", b"", False),
        ("a.json", b'{"a": 1}{"b": 2}', False),
        ("a.json", b"[" * 100_000, False),
        ("a.json", b'{"a": "\xff"}', False),
        ("a.jsonl", b'{"a": 1}\n\n{"b": 2}\n', True),
        ("a.jsonl", b'{"a": 1}\n{"b": 2}', False),
        ("a.jsonl", b'{"a": 1\n{"b": 2}\n', False),
        ("a.jsonl", b"", False),
    ],
)
def test_a_half_written_file_is_known(name: str, content: bytes, whole: bool) -> None:
    assert is_whole(name, content) is whole


@given(st.lists(VALUES, min_size=1, max_size=12), st.integers(200, 600), st.sampled_from([None, 2]), st.booleans())
def test_an_array_is_cut_between_its_elements(values: list[Any], limit: int, indent: int | None, ascii_: bool) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
    longest = max(
        len(json.dumps(value, indent=indent, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")) for value in values
    )
    limit += 2 * longest + 100
    parts = list(split("a.json", io.BytesIO(b" " + text + b"\n"), limit))
    assert all(len(part) <= limit and is_whole("a.json", part) for part in parts)
    assert [value for part in parts for value in json.loads(part)] == values


@given(st.lists(VALUES, min_size=1, max_size=12), st.integers(300, 600))
def test_lines_are_cut_between_lines(values: list[Any], limit: int) -> None:
    lines = [json.dumps(value).encode() for value in values]
    limit += max(map(len, lines))
    parts = list(split("a.jsonl", io.BytesIO(b"\n".join(lines) + b"\n"), limit))
    assert all(len(part) <= limit and is_whole("a.jsonl", part) for part in parts)
    assert b"".join(parts) == b"\n".join(lines) + b"\n"


def test_an_array_larger_than_what_is_read_at_once() -> None:
    values = [{"number": number, "text": '\\"[,{' * 40} for number in range(12_000)]
    parts = list(split("a.json", io.BytesIO(json.dumps(values).encode()), 500_000))
    assert len(parts) > 5
    assert [value for part in parts for value in json.loads(part)] == values


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", b'{"one": "object"}'),
        ("a.json", b"[1,2"),
        ("a.json", b"[1,2]]"),
        ("a.json", b"[1,2] 3"),
        ("a.json", b"[1,2][3]"),
        ("a.json", b"x[1]"),
        ("a.json", b"[1,,2]"),
        ("a.json", b"[,]"),
        ("a.json", b"[1}"),
        ("a.json", b"[1,]"),
        ("a.json", b'["' + b"x" * 100 + b'"]'),
        ("a.json", b""),
        ("a.json", b"17"),
        ("a.jsonl", b"1\n2"),
        ("a.jsonl", b"1\n{\n"),
        ("a.jsonl", b'"' + b"x" * 100 + b'"\n'),
    ],
)
def test_what_cannot_be_cut_says_so(name: str, text: bytes) -> None:
    with pytest.raises(SourceError):
        list(split(name, io.BytesIO(text), 50))
