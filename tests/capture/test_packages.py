"""Packages from strangers: what is whole comes out as it went in, and nothing hostile gets further than its reason."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemill.capture.ingest import Reject
from tracemill.capture.packages import Member, PackageLimits, read_package, shown
from tracemill.core.errors import RecordError

LIMITS = PackageLimits()
SMALL = PackageLimits(bytes_total=200_000, files=5, file_bytes=10_000, ratio=100)


def entry(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def tar(*files: tuple[str | tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002
    """A tar of files as Python's own library writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, content in files:
            about = entry(name) if isinstance(name, str) else name
            about.size = about.size or len(content)
            archive.addfile(about, io.BytesIO(content))
    return out.getvalue()


def read(package: bytes, limits: PackageLimits = LIMITS) -> list[Member | Reject]:
    return list(read_package(io.BytesIO(package), limits))


def reasons(package: bytes, limits: PackageLimits = LIMITS) -> list[str]:
    return [found.reason if isinstance(found, Reject) else "taken" for found in read(package, limits)]


def refusal(package: bytes, limits: PackageLimits = LIMITS) -> str:
    """Why a package is refused whole; the same when only names are read."""
    said = []
    for contents in (True, False):
        with pytest.raises(RecordError) as caught:
            list(read_package(io.BytesIO(package), limits, contents=contents))
        said.append(caught.value.reason)
    assert said[0] == said[1]
    return said[0]


part = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=60
).filter(lambda text: text not in (".", "..") and len(text.encode()) <= 200)
names = st.lists(part, min_size=1, max_size=4).map("/".join).filter(lambda name: name[1:2] != ":")
plain = st.binary(max_size=2000).filter(
    lambda raw: not raw.startswith((b"\x1f\x8b", b"PK", b"BZh", b"7z", b"Rar", b"\xfd7z", b"(\xb5"))
)


@given(
    files=st.dictionaries(names.map(lambda name: f"x/{name}.json"), plain, max_size=8),
    format=st.sampled_from([0, 1, 2]),
)
def test_what_goes_in_comes_out(files: dict[str, bytes], format: int) -> None:  # noqa: A002
    try:
        package = tar(*files.items(), format=format)
    except ValueError:  # ustar has no room for some long names
        return
    expected = [Member(name, content) for name, content in files.items()]
    for packed in (package, gzip.compress(package), zlib_members(package)):
        assert read(packed) == expected
        assert [found.name for found in read_package(io.BytesIO(packed), LIMITS, contents=False)
                if isinstance(found, Member)] == list(files)  # fmt: skip


def zlib_members(package: bytes) -> bytes:
    """One tar in several gzip members, with the zeros behind them that tapes leave."""
    return b"".join(gzip.compress(package[at : at + 700]) for at in range(0, len(package), 700)) + bytes(300)


def test_two_packages_one_behind_the_other() -> None:
    first, second = tar(("a.json", b"1")), tar(("b.json", b"2"))
    for package in (first + second, gzip.compress(first) + gzip.compress(second)):
        assert read(package) == [Member("a.json", b"1"), Member("b.json", b"2")]


def test_a_package_made_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "data" / "feedback").mkdir(parents=True)
    (tmp_path / "data" / "feedback" / "é.json").write_bytes(b"{}")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.add(tmp_path / "data", arcname=".")
    assert read(out.getvalue()) == [Member("feedback/é.json", b"{}")]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (entry("../../etc/passwd"), "unsafe_name"),
        (entry("a/../../b.json"), "unsafe_name"),
        (entry("a/.."), "unsafe_name"),
        (entry("a//b.json"), "unsafe_name"),
        (entry("/etc/passwd"), "unsafe_name"),
        (entry(".//etc/passwd"), "unsafe_name"),
        (entry("C:/a.json"), "unsafe_name"),
        (entry("C:a.json"), "unsafe_name"),
        (entry("..\\..\\a.json"), "unsafe_name"),
        (entry("\\\\host\\share\\a.json"), "unsafe_name"),
        (entry("a\nb.json"), "unsafe_name"),
        (entry("a\udcff.json"), "unsafe_name"),
        (entry("a/" * 600 + "b.json"), "name_too_long"),
        (entry("b" * 256), "name_too_long"),
        (entry("l.json", tarfile.SYMTYPE, linkname="/etc/passwd"), "link"),
        (entry("h.json", tarfile.LNKTYPE, linkname="good.json"), "link"),
        (entry("d.json", tarfile.CHRTYPE, devmajor=1, devminor=3), "not_a_file"),
        (entry("d.json", tarfile.BLKTYPE), "not_a_file"),
        (entry("d.json", tarfile.FIFOTYPE), "not_a_file"),
        (entry("s.json", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}), "not_a_file"),
        (entry("good.json"), "duplicate_name"),
        (entry("./good.json"), "duplicate_name"),
        (entry("b.tar"), "nested_archive"),
        (entry("b.JSON.GZ"), "nested_archive"),
    ],
)
def test_one_bad_file_is_refused_alone(bad: tarfile.TarInfo, reason: str) -> None:
    content = b"" if bad.type != tarfile.REGTYPE else b'{"kept": true}'
    package = tar(("good.json", b"1"), (bad, content), ("after.json", b"2"))
    good, refused, after = read(gzip.compress(package))
    assert (good, after) == (Member("good.json", b"1"), Member("after.json", b"2"))
    assert isinstance(refused, Reject)
    assert refused.reason == reason
    assert refused.raw == (content or bad.name.encode())
    assert refused.place.isprintable()


def test_archives_within_are_known_by_their_beginning_too() -> None:
    inner = tar(("a.json", b"1"))
    package = tar(("a.json", gzip.compress(inner)), ("b.json", inner), ("c.json", b"PK\x03\x04..."), ("d.json", b"[]"))
    assert reasons(package) == ["nested_archive"] * 3 + ["taken"]


def test_a_file_that_is_too_large_leaves_its_mates() -> None:
    found = read(tar(("large.json", b"x" * 10_001), ("small.json", b"1")), SMALL)
    assert isinstance(found[0], Reject)
    assert (found[0].reason, found[0].raw) == ("too_large", b"x" * 1000)
    assert found[1] == Member("small.json", b"1")


def test_bombs() -> None:
    zeros = tar(("a.json", bytes(9_000_000)))
    assert refusal(gzip.compress(zeros)) == "too_large"  # by the ratio
    assert refusal(gzip.compress(zeros), PackageLimits(ratio=10**9, bytes_total=10**6)) == "too_large"
    assert refusal(zeros, PackageLimits(bytes_total=10**6)) == "too_large"
    members = b"".join(gzip.compress(tar((f"{number}.json", bytes(900_000)))) for number in range(12))
    assert refusal(members) == "too_large"  # each a thousandth of what it unpacks to
    padded = tar(("a.json", b"1")) + bytes(3_000_000)  # the mark of the end without end
    assert refusal(gzip.compress(padded), PackageLimits(bytes_total=1000, files=1, ratio=10**9)) == "too_large"
    many = tar(*((f"{number}.json", b"") for number in range(6)))
    assert refusal(many, SMALL) == "too_many_files"
    folders = tar(*((entry(f"{number}", tarfile.DIRTYPE), b"") for number in range(6)))
    assert refusal(folders, SMALL) == "too_many_files"


def test_a_size_that_is_only_stated_costs_nothing() -> None:
    head = entry("a.json", size=2**40).tobuf(tarfile.GNU_FORMAT)
    assert refusal(head + b"1" * 512) == "too_large"
    assert refusal(entry("a.json", size=5000).tobuf() + b"1" * 512) == "malformed"
    negative = bytearray(entry("a.json").tobuf())
    negative[124:136] = b"\xff" * 12
    negative[148:156] = b"%06o\0 " % (sum(negative[:148]) + sum(negative[156:]) + 8 * 32)
    assert refusal(bytes(negative) + bytes(1024)) == "malformed"
    for size in ("-1", "9" * 5000, "x", "²"):
        assert refusal(tar((entry("a.json", pax_headers={"size": size}), b"1"))) == "malformed"


def test_extended_headers_are_bounded() -> None:
    assert refusal(tar((entry("a.json", pax_headers={"comment": "x" * 70_000}), b"1"))) == "malformed"
    long = entry("././@LongLink", b"L", size=2).tobuf(tarfile.GNU_FORMAT) + b"a\0" + bytes(510)
    assert refusal(long * 2000 + tar(("a.json", b"1"))) == "malformed"
    record = entry("x", tarfile.XHDTYPE, size=8).tobuf()
    for text in (b"99 path=", b"0 path=x", b"\xff\xff\xff\xff\xff\xff\xff\xff", b"8 pathx\n"):
        assert refusal(record + text + bytes(504) + tar(("a.json", b"1"))) == "malformed"


def test_what_is_torn_or_no_package_is_refused_whole() -> None:
    package = tar(("a.json", b"1" * 3000), ("b.json", b"2"))
    packed = gzip.compress(package)
    for cut in range(0, len(packed), 7):
        assert refusal(packed[:cut]) == "malformed"
    ends = len(package.rstrip(b"\0"))
    for cut in range(0, ends, 37):
        assert refusal(package[:cut]) == "malformed"
    damaged = bytearray(packed)
    damaged[-6] ^= 1  # the checksum of gzip
    assert refusal(bytes(damaged)) == "malformed"
    for other in (b"", b"{}", b"PK\x03\x04" + bytes(600), packed + b"more", zlib.compress(package), package + b"more"):
        assert refusal(other) == "malformed"


@given(st.binary(max_size=3000), st.integers(0, 3000), st.booleans())
def test_nothing_but_a_reason_comes_of_damage(noise: bytes, at: int, packed: bool) -> None:
    package = tar(("a.json", b"1" * 600), (f"{'long' * 40}.json", b"2"))
    package = package[:at] + noise + package[at + len(noise) :]
    with suppress(RecordError):
        for found in read(gzip.compress(package) if packed else package):
            assert found.place.isprintable() if isinstance(found, Reject) else ".." not in found.name.split("/")


def test_names_are_shown_as_text_of_one_line() -> None:
    assert shown("a\n\x00\udcff\x7f\u202ex") == "a\\n\\x00\\udcff\\x7f\\u202ex"
    assert len(shown("x" * 5000)) == 301
