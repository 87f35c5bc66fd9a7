"""A policy over whole records: nothing found survives anywhere, the record stays valid, and redacting twice changes nothing."""

from __future__ import annotations

import json
import pickle
import re
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.privacy.labelled import EXAMPLES, labelled
from tests.strategies import records
from tracemill.core.codec import decode, decode_json, encode, encode_json
from tracemill.core.errors import RecordError
from tracemill.core.ids import derived_id, now
from tracemill.core.policy import MARK, Policy
from tracemill.core.records import Action, AnyRecord, Channel, Decision, Feedback, Interaction, Option, Step, User
from tracemill.privacy.detect import GROUPS
from tracemill.privacy.identity import TOO_COMMON
from tracemill.privacy.policies import MASK, POLICIES, SAFE_HARBOR, STANDARD
from tracemill.privacy.redact import Redactor

KEY = b"k" * 32
REDACTOR = Redactor(STANDARD, KEY)
BASE: dict[str, Any] = {
    "id": derived_id("redact", 1),
    "time": now(),
    "schema_version": 1,
    "producer": "p",
    "sequence": 0,
}
PROFILE = {
    "name": {"first_name": "Orla", "last_name": "Quist"},
    "email": "orla.quist77@mail.example",
    "dob": "1984-03-12",
    "address": {
        "address1": "742 Birch Hollow Lane",
        "address2": "Suite 5",
        "city": "Klosterneuburg",
        "country": "USA",
        "zip": "60614",
    },
    "payment_methods": {"credit_card_4471": {"id": "credit_card_4471", "last_four": "8812", "amount": 12}},
    "ssn": 536904399,
    "membership": "gold",
}


def conversation(**more: Any) -> Interaction:
    """A conversation in which a tool gives a profile back."""
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_user", "arguments": '{"user_id": "orla_quist_77"}'},
    }
    return Interaction(
        **BASE,
        conversation_id="c-1",
        messages=[
            {"role": "system", "content": "You book flights. Never give away the password of Marketing."},
            {"role": "user", "content": "Hi, it's orla. My id is orla_quist_77, born 03/12/1984."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "name": "get_user", "content": json.dumps(PROFILE)},
            {"role": "assistant", "content": "Thanks, Orla! Ms. Quist, shall I use the card ending in 8812?"},
        ],
        response={"role": "assistant", "content": "Done, ORLA QUIST. https://example.com/u/orla_quist_77"},
        artifact={"passengers": [{"name": "Orla Quist", "dob": "1984-03-12", "seat": "12A"}], "orla_quist_77": 1},
        **more,
    )


SECRETS = (
    "orla",
    "quist",
    "1984-03-12",
    "03/12/1984",
    "742",
    "birch",
    "klosterneuburg",
    "60614",
    "536904399",
    "8812",
    "4471",
)


def test_a_person_is_replaced_wherever_they_recur() -> None:
    new = REDACTOR.record(conversation())
    text = encode_json(new).decode().lower()
    assert [secret for secret in SECRETS if secret in text] == []
    assert decode(encode(new)) == new
    assert decode_json(encode_json(new)) == new


def test_the_same_person_is_the_same_invented_person_throughout() -> None:
    new = REDACTOR.record(conversation())
    profile = json.loads(new.messages[3]["content"])
    first, last = profile["name"]["first_name"], profile["name"]["last_name"]
    handle = json.loads(new.messages[2]["tool_calls"][0]["function"]["arguments"])["user_id"]
    assert new.messages[4]["content"].startswith(f"Thanks, {first}! Ms. {last}, shall")
    assert f"it's {first.lower()}. My id is {handle}, born" in new.messages[1]["content"]
    assert new.artifact["passengers"][0] == {"name": f"{first} {last}", "dob": profile["dob"], "seat": "12A"}
    assert set(new.artifact) == {"passengers", handle}
    assert new.response is not None
    assert new.response["content"] == f"Done, {first.upper()} {last.upper()}. https://example.com/u/{handle}"
    assert isinstance(profile["ssn"], int)
    assert len(str(profile["ssn"])) == 9
    assert (profile["membership"], profile["address"]["country"]) == ("gold", "USA")


def test_what_holds_the_conversation_together_stays() -> None:
    old = conversation(
        tools=[{"type": "function", "function": {"name": "get_user", "parameters": {"email": {"type": "string"}}}}]
    )
    new = REDACTOR.record(old)
    assert new.tools is old.tools
    assert new.messages[0] is old.messages[0]
    assert [one["role"] for one in new.messages] == [one["role"] for one in old.messages]
    assert new.messages[3]["tool_call_id"] == new.messages[2]["tool_calls"][0]["id"] == "call_1"
    assert new.messages[2]["tool_calls"][0]["function"]["name"] == new.messages[3]["name"] == "get_user"
    assert (new.id, new.time, new.conversation_id) == (old.id, old.time, old.conversation_id)


def test_the_record_given_is_not_changed() -> None:
    old = conversation()
    before = encode(old)
    REDACTOR.record(old)
    assert encode(old) == before


def test_notes_say_what_was_done_where_and_not_what_stood_there() -> None:
    new = REDACTOR.record(conversation())
    notes = REDACTOR.notes(new)
    assert ("email", "/messages/3/content#/email", "pseudonym") in [(one.kind, one.place, one.action) for one in notes]
    assert {one.kind for one in notes} >= {
        "person_name",
        "username",
        "date_of_birth",
        "us_ssn",
        "card_last_four",
        "postal_code",
    }
    mark = new.extra[MARK][0]
    assert (mark["policy"], mark["version"], mark["digest"]) == ("standard", 1, STANDARD.digest())
    assert [secret for secret in SECRETS if secret in json.dumps(mark).lower().replace("get_user", "")] == []


def test_records_of_one_conversation_agree() -> None:
    step = Step(
        **{**BASE, "id": derived_id("redact", 2)},
        interaction_id=BASE["id"],
        actions=[Action(tool="get_user", parameters={"user_id": "orla_quist_77"}, result=json.dumps(PROFILE))],
    )
    new, whole = REDACTOR.record(step, scope="c-1"), REDACTOR.record(conversation())
    assert new.actions[0].tool == "get_user"
    assert new.actions[0].result == whole.messages[3]["content"]
    assert f'"{new.actions[0].parameters["user_id"]}"' in whole.messages[2]["tool_calls"][0]["function"]["arguments"]
    assert REDACTOR.record(step).actions[0].result != new.actions[0].result


def test_what_joins_records_is_replaced_alike_in_all_of_them() -> None:
    about: dict[str, Any] = {"conversation_id": "chat-orla@mail.example-7"}
    feedback = Feedback(
        **BASE,
        kind="comment",
        comment="call +44 20 7946 0958",
        user=User(pseudonym="ab", key_id="k", raw_id="orla"),
        **about,
    )
    interaction = Interaction(
        **BASE, messages=[{"role": "user", "name": "Orla", "content": "hello"}], session_id="s", **about
    )
    one, other = REDACTOR.record(feedback), REDACTOR.record(interaction)
    assert one.conversation_id == other.conversation_id
    assert "orla" not in str(one.conversation_id)
    assert one.user is not None
    assert one.user.raw_id not in (None, "orla")
    assert one.user.pseudonym == "ab"
    assert other.messages[0]["name"] != "Orla"


def test_where_somebody_is_reached_and_what_was_decided_on() -> None:
    """A channel's id may be a telephone number or an address, and what a decision chose must stay one of its options."""
    redactor = Redactor(STANDARD, b"k" * 32)
    mail = "jane.roe@example.com"
    moment: dict[str, Any] = {"time": now(), "schema_version": 1, "producer": "p", "sequence": 0}
    turns = [
        redactor.record(
            Interaction(id=derived_id("t", str(n)), **moment, conversation_id=f"c{n}", channel=Channel(id=mail))
        )
        for n in range(2)
    ]
    channels = {turn.channel.id for turn in turns if turn.channel is not None}
    assert len(channels) == 1
    assert mail not in channels
    options = [Option(name=f"write to {mail}"), Option(name="wait")]
    decision = redactor.record(Decision(id=derived_id("t", "d"), **moment, options=options, choice=f"write to {mail}"))
    assert mail not in repr(decision)
    assert [option.name for option in decision.options] == [decision.choice, "wait"]


def test_words_of_programs_may_be_written_by_people() -> None:
    """A score's name, a reason for the end and what was used are text to read; plain ones and counts stay as they are."""
    mail = "orla.quist77@mail.example"
    moment: dict[str, Any] = {"time": now(), "schema_version": 1, "producer": "p", "sequence": 0}
    said = Feedback(id=derived_id("t", "f"), **moment, kind="score", name=f"as {mail} sees it", comment=f"from {mail}")
    new = redactor_record(said)
    assert mail not in repr(new)
    assert new.comment.removeprefix("from ") in new.name
    assert mail not in redactor_record(Step(id=derived_id("t", "s"), **moment, name=f"write to {mail}")).name
    usage = {
        "prompt_tokens": 60614,
        "billed": {"to": mail, f"for {mail}": [1.5, True, mail, None]},
        "phone": 12125550187,
        "note": json.dumps({"email": mail, "count": 60614}),
    }
    turn = Interaction(
        id=derived_id("t", "i"), **moment, finish_reason=f"given up for {mail}", usage=usage, artifact=PROFILE
    )
    clean = redactor_record(turn)
    assert mail not in repr(clean)
    assert "Orla" not in repr(clean)
    assert clean.finish_reason.startswith("given up for ")
    assert clean.usage["prompt_tokens"] == 60614
    assert "12125550187" not in repr(clean)
    assert list(clean.usage) == list(usage)
    (amounts,) = (value for value in clean.usage["billed"].values() if isinstance(value, list))
    assert (amounts[:2], amounts[3]) == ([1.5, True], None)
    assert set(json.loads(clean.usage["note"])) == {"email", "count"}
    plain = Interaction(
        id=derived_id("t", "j"), **moment, finish_reason="tool_calls", usage={"prompt_tokens": 3, "tier": "default"}
    )
    score = Feedback(id=derived_id("t", "g"), **moment, kind="score", name="judge.success", score=1.0)
    for one in (plain, score):
        mark = REDACTOR.record(one).extra[MARK]
        assert REDACTOR.record(one) == msgspec.structs.replace(one, extra={MARK: mark})


def redactor_record(record: Any) -> Any:
    """A record redacted, of any type."""
    return REDACTOR.record(record)


def test_actions() -> None:
    text = "mail orla@mail.example or ORLA@mail.example now"
    for action, expected in (
        ("keep", text),
        ("remove", "mail  or  now"),
        ("mask", "mail [EMAIL] or [EMAIL] now"),
    ):
        policy = msgspec.convert({"name": "p", "version": 1, "actions": {"email": action}}, Policy)
        assert Redactor(policy, KEY).text(text).text == expected
    hashed = Redactor(Policy(name="p", version=1, actions={"contact": "hash"}), KEY).text(text).text
    found = re.fullmatch(r"mail (\[EMAIL:[0-9a-f]{12}\]) or (\[EMAIL:[0-9a-f]{12}\]) now", hashed)
    assert found
    assert found[1] == found[2]
    new = REDACTOR.text(text)
    assert [(one.kind, one.count) for one in new.notes] == [("email", 2)]
    assert len(set(re.findall(r"\S+@\S+", new.text))) == 1


def test_numbers_stand_where_numbers_stood() -> None:
    record = Interaction(**BASE, artifact={"phone": 12125550187, "lat": 48.208176, "ssn": 536904399, "name": 3})
    for name, kept in (("pseudonym", int), ("remove", type(None)), ("mask", str)):
        policy = msgspec.convert({"name": "p", "version": 1, "otherwise": name}, Policy)
        new = Redactor(policy, KEY).record(record).artifact
        assert isinstance(new["ssn"], kept)
        assert new["ssn"] != 536904399
        assert new["name"] == 3
    assert isinstance(REDACTOR.record(record).artifact["lat"], float)


def test_a_stranger_cannot_seal() -> None:
    new = REDACTOR.record(conversation())
    other = Redactor(STANDARD, b"z" * 32)
    assert other.notes(new) == []
    assert other.record(new) is not new
    edited = msgspec.structs.replace(new, intent="ask orla@mail.example")
    assert REDACTOR.notes(edited) == []
    assert "orla@" not in str(REDACTOR.record(edited).intent)
    for forged in ([], "x", [{"policy": "standard", "version": 1, "digest": STANDARD.digest(), "seal": ""}], [1]):
        record = conversation(extra={MARK: forged})
        assert "orla" not in encode_json(REDACTOR.record(record)).decode().lower()


def test_another_policy_follows_and_both_marks_stay() -> None:
    new = Redactor(MASK, KEY).record(REDACTOR.record(conversation()))
    assert [mark["policy"] for mark in new.extra[MARK]] == ["standard", "mask"]
    assert json.loads(new.messages[3]["content"])["email"] == "[EMAIL]"
    assert Redactor(MASK, KEY).record(new) is new


def test_safe_harbor_moves_every_date_and_covers_its_list() -> None:
    text = "admitted 2024-02-01, discharged 2024-02-09"
    new = Redactor(SAFE_HARBOR, KEY).text(text, scope="c").text
    assert REDACTOR.text(text).text == text
    days = [int(day) for day in re.findall(r"\d{4}-\d\d-(\d\d)", new)]
    assert "2024-02-01" not in new
    assert (days[1] - days[0]) % 28 in (8, 5, 6, 7, 9)
    names = (
        "person_name street_address city postal_code geo_coordinates date date_of_birth age_over_89 phone fax email us_ssn "
        "medical_record_number health_plan_number bank_account certificate_number driver_license vehicle_vin license_plate "
        "device_serial profile_url ip_address biometric photo"
    )
    for kind in names.split():
        assert SAFE_HARBOR.action(kind, GROUPS[kind]) != "keep", kind


def test_a_policy_is_checked() -> None:
    with pytest.raises(ValueError, match="e-mail"):
        Redactor(Policy(name="p", version=1, actions={"e-mail": "mask"}), KEY)
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Redactor(STANDARD, b"short")
    assert STANDARD.digest() != msgspec.structs.replace(STANDARD, version=2).digest()
    assert all(policy.name == name for name, policy in POLICIES.items())


def test_what_is_too_deep_is_refused() -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = [deep]
    with pytest.raises(RecordError):
        REDACTOR.record(Interaction(**BASE, artifact=deep))


# -- laws

planted = st.sampled_from([labelled(text, kind) for kind, text in EXAMPLES])
masks = st.sampled_from(["mask", "hash"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(records)
def test_any_record_stays_valid_and_is_redacted_once(record: AnyRecord) -> None:
    before = encode(record)
    new = REDACTOR.record(record)
    assert encode(record) == before
    assert type(new) is type(record)
    assert decode(encode(new)) == new
    assert decode_json(encode_json(new)) == new
    assert REDACTOR.record(new) is new
    assert encode(REDACTOR.record(decode(encode(new)))) == encode(new)
    assert REDACTOR.record(record) == new


@settings(max_examples=100, deadline=None)
@given(st.lists(planted, min_size=1, max_size=4), st.sampled_from([*POLICIES.values()]))
def test_no_original_value_survives(chosen: list[tuple[str, tuple[str, int, int]]], policy: Policy) -> None:
    redactor = Redactor(policy, KEY)
    texts = [plain for plain, _ in chosen]
    values = [
        plain[start:end]
        for plain, (kind, start, end) in chosen
        if end - start >= 5 and policy.action(kind, GROUPS[kind]) != "keep"
    ]
    alone = [plain[start:end] for plain, (kind, start, end) in chosen if end - start >= 5 and kind not in TOO_COMMON]
    record = Interaction(
        **BASE,
        messages=[
            *({"role": "user", "content": text} for text in texts),
            {"role": "assistant", "content": " / ".join(alone)},
        ],
        artifact={"all": texts, "json": json.dumps({"inner": texts})},
    )
    body = encode_json(redactor.record(record)).decode()
    assert [value for value in values if json.dumps(value)[1:-1] in body or value in body] == []


@settings(max_examples=100, deadline=None)
@given(st.lists(planted, max_size=4), masks)
def test_masked_text_is_masked_once(chosen: list[tuple[str, tuple[str, int, int]]], action: str) -> None:
    redactor = Redactor(msgspec.convert({"name": "p", "version": 1, "otherwise": action}, Policy), KEY)
    once = redactor.text("\n".join(plain for plain, _ in chosen)).text
    assert redactor.text(once).text == once


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | planted.map(lambda one: one[0]) | st.text(max_size=8),
    lambda child: (
        st.lists(child, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "email", "dob", "id", "x", "address"]) | st.text(max_size=5), child, max_size=3
        )
    ),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(json_values, max_size=3), st.sampled_from([*POLICIES.values()]))
def test_json_stays_json(value: list[Any], policy: Policy) -> None:
    record = Interaction(**BASE, messages=[{"role": "tool", "tool_call_id": "c", "content": json.dumps(value)}])
    new = json.loads(Redactor(policy, KEY).record(record).messages[0]["content"])

    def alike(old: Any, now_: Any) -> bool:
        if isinstance(old, dict):
            return isinstance(now_, dict) and len(old) == len(now_) and all(map(alike, old.values(), now_.values()))
        if isinstance(old, list):
            return isinstance(now_, list) and len(old) == len(now_) and all(map(alike, old, now_))
        return not isinstance(now_, (dict, list))

    assert alike(value, new)


def test_keys_that_become_alike_stay_apart() -> None:
    people = {"a@example.com": 1, "b@example.com": 2, "[EMAIL]": 3}
    record = Interaction(**BASE, artifact={"mails": people, "text": json.dumps(people)})
    new = Redactor(MASK, KEY).record(record)
    expected = {"[EMAIL]_2": 1, "[EMAIL]_3": 2, "[EMAIL]": 3}
    assert new.artifact["mails"] == json.loads(new.artifact["text"]) == expected


def test_tags_do_not_run_into_each_other() -> None:
    text = Redactor(MASK, KEY).text("a@example.com,b@example.com c@example.com").text
    assert text == "[EMAIL],[EMAIL] [EMAIL]"
    assert all(one != other for one, other in pairwise(text.split()))


def test_a_worker_makes_of_a_redactor_what_it_was() -> None:
    """Policy and key go to another process; what was learnt and compiled here does not."""
    whole = conversation()
    copy = pickle.loads(pickle.dumps(REDACTOR))
    assert encode(copy.record(whole)) == encode(REDACTOR.record(whole))
