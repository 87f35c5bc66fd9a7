"""The documents of a version: what they say is counted again here, from the rows themselves."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tests.dataset.support import calls, feedback, interaction, list_store, result, says, tau_bench, user
from tracemill.core.examples import EXAMPLE_TYPES
from tracemill.core.messages import role
from tracemill.core.records import AnyRecord, Model
from tracemill.dataset.build import build_version
from tracemill.dataset.documents.card import plain_text
from tracemill.dataset.documents.schema import field_types, meanings
from tracemill.dataset.documents.write import DOCUMENTS
from tracemill.dataset.erase import VersionsPlace
from tracemill.dataset.recipe import Recipe, parse_recipe
from tracemill.dataset.version import Version, open_version
from tracemill.privacy.subject import Subject

SECRET = "the zebra sings at noon"
RECIPE = parse_recipe(
    {
        "name": "mixed",
        "description": "A <b>mixture</b>",
        "license": "CC-BY-4.0",
        "intended_uses": ["tests"],
        "forbidden_uses": ["anything `else`"],
        "steps": [{"maximum_messages": {"count": 5}}, {"kinds": {"kinds": ["chat"]}}],
    }
)


def records() -> list[AnyRecord]:
    """Three platforms of 30, 12 and 3 interactions; some too long, some of another kind, some labelled."""
    made: list[AnyRecord] = []
    for number in range(45):
        name = str(number)
        platform = "web" if number < 30 else "phone" if number < 42 else "kiosk"
        messages = [says("user", f"{SECRET} {number}")]
        if number % 5 == 0:
            messages += [calls("lookup", "{}", "c"), result("c", SECRET)]
        if number % 9 == 8:
            messages *= 6
        made.append(
            interaction(
                *(name, messages),
                platform=platform,
                kind="workflow" if number % 11 == 10 else "chat",
                response=says("assistant", f"{SECRET} answer {number}"),
                user=user(f"u{number % 7 if number < 40 else 0}"),
                model=Model(name="m1" if number % 2 else "m2"),
                success=number % 3 != 0,
                minutes=number * 60 * 24,
            )
        )
        if number % 4 == 0:
            made.append(feedback(f"f{name}", name, kind="thumbs_up" if number % 8 else "thumbs_down"))
    return made


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    return build_version(list_store(records()), RECIPE, tmp_path_factory.mktemp("datasets"))


def document(version: Version, name: str) -> Any:
    return json.loads((version.path / name).read_bytes())


def test_every_document_is_there_listed_and_verified(version: Version) -> None:
    assert {file.path for file in version.manifest.documents} == {"README.md", *DOCUMENTS}
    assert version.verify() == []
    assert document(version, "manifest.json")["documents"] == msgspec.to_builtins(version.manifest.documents)


@pytest.mark.parametrize("name", ["README.md", *DOCUMENTS])
def test_a_changed_or_missing_document_is_noticed(tmp_path: Path, name: str) -> None:
    version = build_version(list_store(records()[:10]), Recipe(name="n"), tmp_path)
    path = version.path / name
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"e", b"a", 1))
    assert version.verify() == [f"{name} was changed: its size or SHA-256 is not the manifest's"]
    path.unlink()
    assert version.verify() == [f"{name} is missing"]


def test_a_version_of_before_there_were_documents_is_whole(version: Version, tmp_path: Path) -> None:
    plain = document(version, "manifest.json")
    del plain["documents"]
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "manifest.json").write_text(json.dumps(plain))
    assert open_version(tmp_path / "v1").manifest.documents == []


def test_the_order_of_records_leaves_no_trace(version: Version, tmp_path: Path) -> None:
    again = build_version(list_store(records()[::-1]), RECIPE, tmp_path)
    assert again.manifest_sha256 == version.manifest_sha256


def test_no_document_holds_what_anybody_wrote(version: Version) -> None:
    for file in version.manifest.documents:
        text = (version.path / file.path).read_text(encoding="utf-8")
        assert "zebra" not in text
        assert "u3" not in re.findall(r"\w+", text)


# -- schema


def test_every_field_of_every_type_has_a_meaning_and_a_type() -> None:
    for tag, kind in EXAMPLE_TYPES.items():
        said = meanings(kind)
        assert list(said) == ["example", *kind.__struct_fields__]
        assert all(said.values()), (tag, [name for name, text in said.items() if not text])
        assert all(field_types(kind).values())
    assert field_types(EXAMPLE_TYPES["preference"])["pairs"] == "list[tuple[str, str]]"
    assert field_types(EXAMPLE_TYPES["preference"])["confidence"] == "float (ge=0, le=1)"
    assert field_types(EXAMPLE_TYPES["labelled"])["score"] == "float | None"


def test_presence_and_ranges_are_those_of_the_rows(version: Version) -> None:
    schema = document(version, "schema.json")["examples"]
    assert set(schema) == {"supervised", "labelled"}
    for tag, described in schema.items():
        rows = [json.loads(line) for split in version.splits() for line in lines(version, split, tag)]
        assert described["rows"] == len(rows) == version.count(type=tag)
        for name, field in described["fields"].items():
            values = [row[name] for row in rows if name in row]
            assert field["present"] == len(values)
            assert field["share"] == pytest.approx(len(values) / len(rows))
            numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
            if numbers:
                assert field["range"] == [min(numbers), max(numbers)]
                assert field["mean"] == pytest.approx(sum(numbers) / len(numbers))
            lists = [len(value) for value in values if isinstance(value, list)]
            assert field.get("length") == ([min(lists), max(lists)] if lists else None)
            assert field.get("true", 0) == sum(value is True for value in values)


def lines(version: Version, split: str, tag: str) -> list[bytes]:
    path = version.path / f"{split}-{tag}.jsonl"
    return path.read_bytes().splitlines() if path.exists() else []


# -- quality


def test_the_quality_report_counts_what_is_in_the_rows(version: Version) -> None:
    quality = document(version, "quality.json")["examples"]
    for tag, found in quality.items():
        examples = list(version.examples(type=tag))
        said = [
            [*getattr(row, "messages", []), *getattr(row, "prompt", []), *getattr(row, "completion", []), *row.tail]  # type: ignore[union-attr]
            for row in examples
        ]
        assert found["messages"]["count"] == len(examples)
        assert found["messages"]["mean"] == pytest.approx(sum(map(len, said)) / len(said))
        assert found["roles"] == Counter(role(message) for messages in said for message in messages)
        assert found["tools"].get("lookup", 0) == sum(
            1 for messages in said for message in messages for _ in message.get("tool_calls") or []
        )
    labels = list(version.examples(type="labelled"))
    counted = quality["labelled"]["labels"]
    assert sum(each["wanted"] for each in counted.values()) == sum(row.label for row in labels)  # type: ignore[union-attr]
    assert quality["labelled"]["human_validated"] == len(labels) > 0


# -- lineage


def test_steps_say_what_went_in_and_came_out(version: Version) -> None:
    lineage = document(version, "lineage.json")
    long = sum(1 for number in range(45) if number % 9 == 8)
    other = sum(1 for number in range(45) if number % 11 == 10 and number % 9 != 8)
    assert lineage["steps"] == [
        {"step": "maximum_messages", "in": 45, "out": 45 - long, "dropped": {"too_many_messages": long}},
        {"step": "kinds", "in": 45 - long, "out": 45 - long - other, "dropped": {"other_kind": other}},
    ]
    assert lineage["interactions_read"] == 45
    used = {fate.id for fate in version.fates() if fate.examples} & {r.id for r in records() if hasattr(r, "messages")}
    assert lineage["interactions_used"] == len(used)
    assert sum(lineage["signals"]["labelled"].values()) == version.count(type="labelled")
    days = sorted(record.time.date().isoformat() for record in records() if record.id in used)
    assert (lineage["first_day"], lineage["last_day"]) == (days[0], days[-1])


def test_small_groups_are_not_told(version: Version) -> None:
    """Three interactions of a kiosk: neither their number nor, by subtraction, that of any other group alone."""
    platforms = document(version, "lineage.json")["sources"]["platform"]
    assert [group["name"] for group in platforms["groups"]] == ["web"]
    assert platforms["suppressed"]["groups"] == 2
    assert platforms["suppressed"]["read"] == 15
    for file in version.manifest.documents:
        assert "kiosk" not in (version.path / file.path).read_text(encoding="utf-8")


# -- what is read by others


def test_the_usage_guidelines_say_what_the_recipe_says(version: Version) -> None:
    text = (version.path / "USAGE.md").read_text(encoding="utf-8")
    for said in ("- tests", "- anything \\`else\\`", "CC-BY-4.0", "A &lt;b>mixture", "labelled rows:"):
        assert said in text
    without = re.sub(r"CC-BY-4.0", "", text)
    assert "None is given" not in without


def test_the_card_loads_every_type_of_row(version: Version, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    card = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed").DatasetCard(
        (version.path / "README.md").read_text(encoding="utf-8")
    )
    assert card.data.license == "cc-by-4.0"
    for tag in ("supervised", "labelled"):
        loaded = datasets.load_dataset(str(version.path), tag, cache_dir=str(tmp_path))
        for split in loaded:
            written = [json.loads(line) for line in lines(version, split, tag)]
            read = [{key: value for key, value in row.items() if value is not None} for row in loaded[split]]
            assert read == written


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")  # mlcroissant's own parser
@pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib", "ignore::FutureWarning:mlcroissant")
def test_croissant_is_valid_and_reads_the_rows(version: Version) -> None:
    mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    opened = mlcroissant.Dataset(jsonld=str(version.path / "croissant.json"))
    assert not opened.metadata.issues.errors
    names = {found.uuid for found in opened.metadata.record_sets}
    assert names == {f"{split}-{tag}" for split, types in version.manifest.examples.items() for tag in types}
    for name in names:
        split, _, tag = name.partition("-")
        rows = [json.loads(line) for line in lines(version, split, tag)]
        read = list(opened.records(record_set=name))
        assert [row[f"{name}/id"].decode() for row in read] == [row["id"] for row in rows]
        sources = [[source.decode() for source in row[f"{name}/sources"]] for row in read]
        assert sources == [row["sources"] for row in rows]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes.extend(attrs)


def test_the_page_needs_nothing_else_and_hides_nothing(version: Version) -> None:
    text = (version.path / "quality.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    assert page.tags["svg"] >= 5
    assert not page.tags.keys() & {"script", "link", "img", "iframe", "b"}
    assert all(name not in ("src", "srcset", "onclick", "style") for name, _ in page.attributes)
    assert all((value or "").startswith("#") for name, value in page.attributes if name == "href")
    assert "&lt;b&gt;mixture" in text
    assert "default-src 'none'" in text


def test_an_erasure_takes_the_documents_with_the_rows(tmp_path: Path) -> None:
    version = build_version(list_store(records()), RECIPE, tmp_path)
    gone = frozenset({next(record.id for record in records())})
    subject = Subject(kind="interaction", value="", ids=gone)
    place = VersionsPlace(tmp_path, lambda: "receipt")
    touched = place.erase(subject)
    assert touched.removed == {"versions": 1, "rows": version.count()}
    buried = open_version(version.path)
    assert {path.name for path in version.path.iterdir()} == {"manifest.json", "build.json", "tombstone.json"}
    assert buried.verify() == []
    (version.path / "representation.json").write_text("{}")  # a kill came before the last of them was removed
    assert buried.verify() == ["representation.json is still there, though the version was erased"]
    assert place.left(subject) == 1
    place.erase(subject)
    assert place.left(subject) == 0
    assert not (version.path / "representation.json").exists()


def test_a_version_without_rows_is_described_too(tmp_path: Path) -> None:
    version = build_version(list_store([]), Recipe(name="empty"), tmp_path)
    assert version.verify() == []
    assert document(version, "schema.json") == {"examples": {}}
    assert document(version, "representation.json")["users"]["users"] == 0
    assert "no rows" in (version.path / "quality.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("count", [1, 4])
def test_a_version_of_a_few_people_does_not_say_of_how_many(tmp_path: Path, count: int) -> None:
    found: list[AnyRecord] = [
        interaction(
            *(str(number), [says("user", f"question {number}"), says("assistant", f"answer {number}")]),
            user=user(f"u{number % count}"),
            success=True,
        )
        for number in range(8)
    ]
    version = build_version(list_store(found), Recipe(name="few", split={"train": 1.0}), tmp_path)
    told = document(version, "representation.json")
    assert {name: value for name, value in told["users"].items() if value is not None} == {
        "interactions_without_user": 0
    }
    assert told["findings"] == ["Fewer than 5 users are the source of all interactions that name one."]
    page = html.unescape((version.path / "quality.html").read_text(encoding="utf-8"))
    assert "Users: fewer than five. Interactions that name no user: 0." in page
    assert "users of equal activity" not in page


def test_the_real_trajectories(shared_data: Path, tmp_path: Path) -> None:
    found = list(tau_bench(shared_data / "tau_bench_airline_gpt4o.json"))
    version = build_version(list_store(found), Recipe(name="airline"), tmp_path)
    outcome = document(version, "representation.json")["whole"]["outcome"]
    good = sum(1 for record in found if getattr(record, "success", None))
    assert (outcome["successes"], outcome["total"]) == (good, 200)
    users = Counter(record.user.pseudonym for record in found if getattr(record, "user", None))  # type: ignore[union-attr]
    concentration = document(version, "representation.json")["users"]
    assert concentration["users"] == len(users)
    assert concentration["top_share"] == pytest.approx(max(users.values()) / 200)
    assert concentration["effective_kish"] == pytest.approx(200**2 / sum(n * n for n in users.values()))


@pytest.mark.parametrize(
    "text", ["\\[x](javascript:alert(1))", "\\`code`", "\\<script>alert(1)</script>", "~~~", "\\|"]
)
def test_markdown_shows_a_text_as_it_is(text: str) -> None:
    shown_text = plain_text(text)
    told = re.sub(r"\\([!-/:-@\[-`{-~])", "\x00\\1", shown_text)  # escaped signs, as CommonMark reads them
    assert not re.search(r"(?<!\x00)[`\[|<~]", told)
    assert html.unescape(told.replace("\x00", "")) == text


def test_no_sign_in_markdown_steers_a_terminal_or_hides_text() -> None:
    assert plain_text("a\x1b[31m\u202eb\u2066\nc") == "a�\\[31m�b� c"


def test_a_split_may_have_a_name_that_yaml_reads_as_something_else(tmp_path: Path) -> None:
    turns = [
        interaction(str(at), [says("user", f"q {at}")], response=says("assistant", f"a {at}"), success=True)
        for at in range(20)
    ]
    made = build_version(list_store(turns), Recipe(name="d", split={"no": 0.5, "null": 0.5}), tmp_path)
    header = yaml.safe_load((made.path / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    splits = [file["split"] for config in header["configs"] for file in config["data_files"]]
    assert sorted(splits) == ["no", "null"]
