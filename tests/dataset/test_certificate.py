"""Certificates: what is planted is found, what is sound passes, and no field can be changed afterwards."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.dataset.support import feedback, interaction, says, user
from tracemill.core.certificate import Certificate, Check
from tracemill.core.errors import DatasetError, SourceError
from tracemill.core.examples import SupervisedExample
from tracemill.core.records import Interaction
from tracemill.core.settings import load_settings
from tracemill.dataset import leaks, residual
from tracemill.dataset.certified import certificate_problems, read_certificate
from tracemill.dataset.checks import share
from tracemill.dataset.files import sha256_of
from tracemill.dataset.leaks import Leaks
from tracemill.dataset.near import clusters
from tracemill.dataset.recipe import Recipe
from tracemill.dataset.version import BUILD, CERTIFICATE, MANIFEST, Version
from tracemill.workspace import Workspace

SPLIT = {"test": 0.4, "train": 0.6}
WORDS = [f"w{number}x" for number in range(5000)]


def sentence(number: int) -> str:
    return " ".join(WORDS[number * 20 : number * 20 + 20])


def turn(number: int, /, question: str = "", **fields: Any) -> Interaction:
    asked = question or sentence(number)
    defaults: dict[str, Any] = {
        "user": user(f"person {number}"),
        "conversation_id": f"conversation {number}",
        "success": True,
        "response": says("assistant", f"{sentence(number + 100)}."),
    }
    return interaction(f"turn {number}", [says("user", asked)], minutes=number, **{**defaults, **fields})


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    settings = load_settings({"workspace": str(tmp_path / "w")}, environment={}, config=_none(tmp_path))
    with Workspace.open(settings=settings) as opened:
        yield opened


def _none(tmp_path: Path) -> Path:
    path = tmp_path / "empty.yaml"
    path.touch()
    return path


def built(workspace: Workspace, records: list[Any], **recipe: Any) -> Version:
    assert not workspace.store.append(records).refused
    return workspace.build_dataset(Recipe(name="d", split=SPLIT, seed=3, signals=("supervised",), **recipe)).version


def checks(certificate: Certificate) -> dict[str, Check]:
    return {check.name: check for check in certificate.checks}


def tampered(version: Version, move: str, marker: str) -> None:
    """Put the rows of a split that hold a marker into the other one, with a manifest that says so: a build that leaks."""
    rows = {split: (version.path / f"{split}-supervised.jsonl").read_bytes().splitlines() for split in SPLIT}
    other = next(split for split in SPLIT if split != move)
    moved = [row for row in rows[move] if marker.encode() in row]
    assert moved
    rows[other] = sorted([*rows[other], *moved], key=lambda row: json.loads(row)["id"])
    rows[move] = [row for row in rows[move] if row not in moved]
    _write(version, rows)


def _write(version: Version, rows: dict[str, list[bytes]]) -> None:
    manifest = json.loads((version.path / MANIFEST).read_bytes())
    for split, lines in rows.items():
        path = version.path / f"{split}-supervised.jsonl"
        path.chmod(0o644)
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        manifest["examples"][split] = {"supervised": len(lines)}
        entry = next(file for file in manifest["files"] if file["path"] == path.name)
        entry |= {"rows": len(lines), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    for name, value in ((MANIFEST, manifest), (BUILD, json.loads((version.path / BUILD).read_bytes()))):
        (version.path / name).chmod(0o644)
        if name == BUILD:
            value["manifest_sha256"] = sha256_of(version.path / MANIFEST)
        (version.path / name).write_text(json.dumps(value))


def test_a_sound_version_passes_what_was_looked_at(workspace: Workspace) -> None:
    version = built(workspace, [turn(number) for number in range(40)], canaries=2)
    found = checks(workspace.certifying.certify("d", k=1, actor="test"))
    failed = {name for name, check in found.items() if check.state == "failed"}
    assert failed == {"residual.canaries"}  # no redaction was asked for
    assert found["contamination"].state == "unknown"
    assert {name for name in found if name.startswith("split.")} == {
        *(f"split.shared_{kind}" for kind in ("user", "conversation", "session", "task")),
        "split.equal_content",
        "split.near_duplicates",
    }
    users = found["split.shared_user"]
    assert (users.state, users.hits, users.total, users.high) == ("passed", 0, 40, 3 / 40)
    assert version.verify() == []


def test_a_person_and_a_conversation_in_two_splits_are_found(workspace: Workspace) -> None:
    same: dict[str, Any] = {"user": user("ann"), "conversation_id": "one", "session_id": "s", "task_id": "t"}
    version = built(workspace, [turn(0, **same), turn(1, **same), *(turn(number) for number in range(2, 40))])
    (split,) = {split for split in SPLIT for row in version.examples(split) if _has(row, WORDS[0])}
    tampered(version, split, WORDS[0])
    found = checks(workspace.certifying.certify("d", actor="test"))
    for kind in ("user", "conversation", "session", "task"):
        assert (found[f"split.shared_{kind}"].state, found[f"split.shared_{kind}"].hits) == ("failed", 1), kind
    assert found["split.equal_content"].state == "passed"


def _has(row: Any, word: str) -> bool:
    return word in msgspec.json.encode(row).decode()


def test_rows_that_say_nearly_the_same_in_two_splits_are_found(workspace: Workspace) -> None:
    long = " ".join(WORDS[4000:4100])
    records = [turn(0, question=long + " alpha"), turn(1, question=long + " omega", response=turn(0).response)]
    version = built(workspace, [*records, *(turn(number) for number in range(2, 40))])
    splits = {split for split in SPLIT for row in version.examples(split) if _has(row, "alpha")}
    others = {split for split in SPLIT for row in version.examples(split) if _has(row, "omega")}
    if splits == others:
        tampered(version, next(iter(splits)), "alpha")
    found = checks(workspace.certifying.certify("d", actor="test"))
    assert (found["split.near_duplicates"].state, found["split.near_duplicates"].hits) == ("failed", 2)
    assert found["split.equal_content"].state == "passed"


def test_no_text_of_a_row_stays_behind(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    version = built(workspace, [turn(number) for number in range(40)])
    dataset = version.path.parent
    left = dataset / ".building-certificate" / "rows-000000.texts"
    left.parent.mkdir()
    left.touch()  # as a kill leaves it
    seen: list[bool] = []
    near = clusters

    def look(crew: Any, work: Path, *more: Any) -> Any:
        seen.append(bool(list(work.glob("rows-*.texts"))))
        return near(crew, work, *more)

    monkeypatch.setattr(leaks, "clusters", look)
    workspace.certifying.certify("d", actor="test")
    assert seen == [True]
    monkeypatch.setattr(leaks, "clusters", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        workspace.certifying.certify("d", actor="test")
    assert not list(dataset.glob(".building-*"))


def test_equal_content_in_two_splits_is_found(workspace: Workspace) -> None:
    version = built(workspace, [turn(number) for number in range(40)])
    rows = {split: (version.path / f"{split}-supervised.jsonl").read_bytes().splitlines() for split in SPLIT}
    rows["test"] = sorted([*rows["test"], rows["train"][0]], key=lambda row: json.loads(row)["id"])
    _write(version, rows)
    found = checks(workspace.certifying.certify("d", actor="test"))
    assert (found["split.equal_content"].state, found["split.equal_content"].hits) == ("failed", 1)


def test_contamination_by_prompt_and_by_answer_is_counted(workspace: Workspace, tmp_path: Path) -> None:
    version = built(workspace, [turn(number) for number in range(40)])
    trained = next(iter(version.examples("train")))
    tested = next(iter(version.examples("test")))
    assert not isinstance(trained, str)
    prompt, answer = (message["content"] for message in trained.messages)  # type: ignore[union-attr]
    held_out = tested.messages[0]["content"]  # type: ignore[union-attr]
    path = tmp_path / "bench.jsonl"
    items = [{"question": prompt}, {"question": "what?", "answer": answer}, {"question": held_out}, {"question": "hm"}]
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    clean = tmp_path / "clean.txt"
    clean.write_text("\n".join(" ".join(f"c{line}y{at}" for at in range(20)) for line in range(30)))
    found = checks(workspace.certifying.certify("d", [path, clean], actor="test"))
    bench, other = found["contamination.bench.jsonl"], found["contamination.clean.txt"]
    assert (bench.state, bench.hits, bench.total) == ("failed", 2, 3)
    assert (bench.detail["in_prompt"], bench.detail["in_answer"], bench.detail["too_short"]) == (1, 1, 1)
    assert (other.state, other.hits, other.total, other.high) == ("passed", 0, 30, 0.1)
    with pytest.raises(SourceError):
        workspace.certifying.certify("d", [tmp_path / "absent.jsonl"], actor="test")


def test_personal_data_that_is_left_is_counted_by_kind_and_never_shown(workspace: Workspace) -> None:
    records = [turn(0, question="Write to ada.lovelock@mail.example.com please"), *(turn(n) for n in range(1, 30))]
    version = built(workspace, records)
    made = workspace.certifying.certify("d", actor="test")
    found = checks(made)["residual.detected"]
    assert (found.state, found.hits, found.total) == ("failed", 1, 30)
    assert found.detail["rows_by_kind"]["email"][:2] == [1, 30]
    text = (version.path / CERTIFICATE).read_text()
    assert "lovelock" not in text
    assert [word for word in WORDS[:4000:37] if word in text] == []


def test_consent_that_was_withdrawn_since_fails(workspace: Workspace) -> None:
    built(workspace, [turn(number) for number in range(20)])
    assert checks(workspace.certifying.certify("d", actor="test"))["consent.train"].state == "passed"
    workspace.consenting.say(user("person 3"), "train", granted=False, actor="test")
    found = checks(workspace.certifying.certify("d", actor="test"))["consent.train"]
    assert (found.state, found.hits, found.total) == ("failed", 1, 20)


def test_sources_that_are_gone_make_it_unknown(workspace: Workspace) -> None:
    records = [turn(number) for number in range(20)]
    built(workspace, records)
    workspace.store.erase([records[0].id])
    found = checks(workspace.certifying.certify("d", actor="test"))
    assert found["consent.train"].state == "unknown"
    assert found["split.shared_user"].state == "unknown"


def test_people_who_are_not_known_any_more_are_not_counted_as_many(workspace: Workspace) -> None:
    records = [turn(number, user=user("one")) for number in range(10)]
    built(workspace, records)
    columns = ["platform"]
    assert checks(workspace.certifying.certify("d", columns=columns, actor="test"))["anonymity"].state == "failed"
    assert workspace.certifying.anonymity("d", columns, k=1).holds
    workspace.store.erase([record.id for record in records])
    found = checks(workspace.certifying.certify("d", columns=columns, actor="test"))
    assert found["anonymity"].state == "unknown"
    gone = workspace.certifying.anonymity("d", columns, k=1)
    assert (gone.holds, gone.unresolved) == (False, 10)


def test_who_gave_feedback_does_not_hide_whom_a_row_is_of(workspace: Workspace) -> None:
    turns = [turn(number, user=user("one")) for number in range(6)]
    said = [feedback(f"f{n}", f"turn {n}", kind="thumbs_up", user=user(f"rater {n}")) for n in range(6)]
    built(workspace, [*turns, *said])
    assert workspace.certifying.anonymity("d", ["platform"], k=2).smallest == 1


def test_rows_that_stand_out_are_counted_by_people(workspace: Workspace) -> None:
    common = [turn(number, platform="shop") for number in range(6)]
    rare = [turn(number, platform="rare", user=user("one")) for number in range(6, 16)]
    built(workspace, [*common, *rare])
    found = workspace.certifying.anonymity("d", ["platform"], k=5)
    assert (found.smallest, found.below, found.rows) == (1, 10, 16)
    by_month = workspace.certifying.anonymity("d", ["month", "kind"], k=5)
    assert (by_month.classes, by_month.holds) == (1, True)
    check = checks(workspace.certifying.certify("d", columns=["platform"], actor="test"))["anonymity"]
    assert (check.state, check.hits, check.detail["smallest"]) == ("failed", 10, 1)
    with pytest.raises(DatasetError, match="no column 'shoe_size'"):
        workspace.certifying.anonymity("d", ["shoe_size"])


def flipped(value: Any) -> Iterator[Any]:
    """The value with one thing in it changed, for every thing in it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            for other in flipped(inner):
                yield {**value, key: other}
            if isinstance(inner, list | dict):
                yield {name: each for name, each in value.items() if name != key} | {key: type(inner)()}
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            for other in flipped(inner):
                yield [*value[:at], other, *value[at + 1 :]]
            yield value[:at] + value[at + 1 :]
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
    elif isinstance(value, str):
        yield {"passed": "failed", "failed": "passed", "unknown": "passed"}.get(value, value + "0")
    elif value is None:
        yield 0.0


def test_no_field_of_a_certificate_can_be_changed(workspace: Workspace) -> None:
    version = built(workspace, [turn(number) for number in range(12)])
    workspace.certifying.certify("d", actor="test")
    path = version.path / CERTIFICATE
    plain = json.loads(path.read_bytes())
    assert certificate_problems(version, _read(version), workspace.signer) == []

    changed = 0
    for other in flipped(copy.deepcopy(plain)):
        if other == plain:
            continue
        path.write_text(json.dumps(other))
        try:
            found = _read(version)
        except DatasetError:
            continue
        if msgspec.to_builtins(found) == msgspec.to_builtins(msgspec.convert(plain, Certificate)):
            continue
        assert certificate_problems(version, found, workspace.signer) != [], other
        changed += 1
    assert changed > 100


def _read(version: Version) -> Certificate:
    found = read_certificate(version)
    assert found is not None
    return found


def test_a_certificate_of_another_version_or_key_or_of_changed_rows_does_not_hold(
    workspace: Workspace, tmp_path: Path
) -> None:
    version = built(workspace, [turn(number) for number in range(12)])
    workspace.certifying.certify("d", actor="test")
    newer = built(workspace, [turn(50)])
    (newer.path / CERTIFICATE).write_bytes((version.path / CERTIFICATE).read_bytes())
    assert len(workspace.certifying.certificate("d@v2")[1]) == 2
    with Workspace.open(tmp_path / "other") as other:
        assert certificate_problems(version, _read(version), other.signer) != []
    rows = version.path / "train-supervised.jsonl"
    rows.chmod(0o644)
    rows.write_bytes(rows.read_bytes()[:-2] + b" \n")
    assert any("train-supervised.jsonl" in problem for problem in workspace.certifying.certificate("d@v1")[1])
    with pytest.raises(DatasetError, match="is damaged"):
        workspace.certifying.certify("d@v1", actor="test")


def test_erasure_takes_the_certificate_and_a_certified_version_is_given_again(workspace: Workspace) -> None:
    version = built(workspace, [turn(number) for number in range(12)])
    workspace.certifying.certify("d", actor="test")
    assert built(workspace, []).path == version.path
    workspace.erase("interaction", turn(3).id)
    assert not (version.path / CERTIFICATE).exists()
    with pytest.raises(DatasetError, match="was not certified"):
        workspace.certifying.certificate("d@v1")
    with pytest.raises(DatasetError, match="has no rows"):
        workspace.certifying.certify("d@v1", actor="test")


def test_a_certificate_that_is_put_back_after_an_erasure_does_not_hold(workspace: Workspace) -> None:
    version = built(workspace, [turn(number) for number in range(12)])
    workspace.certifying.certify("d", actor="test")
    kept = (version.path / CERTIFICATE).read_bytes()
    workspace.erase("interaction", turn(3).id)
    (version.path / CERTIFICATE).write_bytes(kept)
    assert any("erased" in problem for problem in workspace.certifying.certificate("d@v1")[1])


def test_an_erasure_that_was_killed_before_the_certificate_is_taken_up_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = built(workspace, [turn(number) for number in range(12)])
    workspace.certifying.certify("d", actor="test")
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.name == CERTIFICATE:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            workspace.erase("interaction", turn(3).id)
    workspace.erase("interaction", turn(3).id)
    assert not (version.path / CERTIFICATE).exists()


def test_a_share_of_nothing_is_unknown_and_of_no_hits_bounded_by_three_in_n() -> None:
    assert share("x", 0, 0).state == "unknown"
    assert share("x", 0, 2).high == 1.0
    one = share("x", 1, 50, 0.05)
    assert one.state == "passed"
    assert one.low is not None
    assert one.high is not None
    assert one.low < 0.02 < one.high
    assert share("x", 5, 50, 0.05).state == "failed"


def test_features_that_rows_carry_are_columns(workspace: Workspace) -> None:
    version = built(workspace, [turn(number, platform="shop") for number in range(8)], features=("hour",))
    names = sorted(next(iter(version.examples())).features)
    assert names
    found = workspace.certifying.anonymity("d", names, k=5)
    assert (found.rows, found.columns) == (8, tuple(names))


def test_a_version_that_was_redacted_has_little_left_and_its_canaries_say_so(workspace: Workspace) -> None:
    records = [turn(0, question="Write to ada.lovelock@mail.example.com please"), *(turn(n) for n in range(1, 12))]
    plain = built(workspace, records, canaries=4)
    assert {passed for passed, _ in plain.manifest.canaries.values()} == {4}
    masked = built(workspace, [], canaries=4, redaction="mask")
    assert masked.manifest.redaction is not None
    passed, planted = (sum(number[at] for number in masked.manifest.canaries.values()) for at in (0, 1))
    assert passed <= 0.05 * planted
    found = checks(workspace.certifying.certify(masked.reference, actor="test"))
    assert (found["residual.detected"].state, found["residual.canaries"].state) == ("passed", "passed")
    invented = built(workspace, [], redaction="standard")
    check = checks(workspace.certifying.certify(invented.reference, actor="test"))["residual.detected"]
    assert (check.state, check.detail["invented_or_kept"]["email"]) == ("passed", 1)


def test_a_row_that_lost_one_of_its_sources_leaves_leaks_unknown(tmp_path: Path) -> None:
    looked = Leaks(tmp_path)
    one = SupervisedExample(id="1", sources=[turn(0).id, turn(1).id], signal="supervised", messages=[says("user", "q")])
    looked.add("train", one, [turn(0)])
    found = {check.name: check for check in looked.checks()}
    assert found["split.shared_user"].state == "unknown"


def test_what_stands_where_a_long_text_is_cut_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residual, "_LONGEST", 2000)
    found = residual.Residual()
    long = "word " * 397 + "x ada.lovelock@mail.example.com" + " word" * 300
    found.add(SupervisedExample(id="1", sources=[], signal="supervised", messages=[says("user", long)]))
    assert found.found["email"] == 1


def test_what_an_object_has_as_its_key_is_found() -> None:
    found = residual.Residual()
    said = {**says("user", "q"), "seen": {"ada.lovelock@mail.example.com": 3}}
    found.add(SupervisedExample(id="1", sources=[], signal="supervised", messages=[said]))
    assert found.found["email"] == 1
