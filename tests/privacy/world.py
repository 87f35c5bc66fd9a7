"""A workspace that has two people in every place there is: Ann, who is to be erased, and Bob, who stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from tracemill.capture.gepeto import write_tree
from tracemill.capture.lightspeed.files import write_feedback, write_transcript
from tracemill.core.codec import encode
from tracemill.core.ids import id_bytes, new_id, now
from tracemill.core.pseudonym import load_pseudonymizer
from tracemill.core.records import AnyRecord, Feedback, Interaction, SessionEnd, Step, User, Validation
from tracemill.core.settings import Settings, load_settings
from tracemill.sdk.client import Client
from tracemill.sdk.spool import bury
from tracemill.workspace import Workspace

SHARED = "Our opening hours are nine to five, and returns are free within thirty days of delivery. " * 3


@dataclass
class Person:
    """Somebody with their records; ``canary`` is a word nobody else says."""

    name: str
    canary: str
    conversation: str
    user: User
    records: list[AnyRecord] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """The ids of their records, in the order they were made."""
        return [record.id for record in self.records]

    def needles(self) -> dict[str, bytes]:
        """What must be nowhere once they are erased."""
        return {
            f"{self.name}'s canary": self.canary.encode(),
            f"{self.name}'s conversation": self.conversation.encode(),
            f"{self.name}'s pseudonym": self.user.pseudonym.encode(),
            f"{self.name}'s first id": self.ids[0].encode(),
            f"{self.name}'s first id, packed": id_bytes(self.ids[0]),
        }


def settings_of(path: Path, **more: Any) -> Settings:
    return load_settings(
        {
            "workspace": str(path),
            "gepeto_path": str(path / "gepeto"),
            "user_data_collection": {
                "transcripts_storage": str(path / "transcripts"),
                "feedback_storage": str(path / "feedback"),
            },
            **more,
        },
        environment={},
    )


def person(workspace: Workspace, name: str, *, turns: int = 4) -> Person:
    """Half of it older than the archive's age. Every turn has a step and a validation, and people say what they think."""
    who = Person(name, f"canary-of-{name}-5f1c", f"conversation-of-{name}", workspace_user(workspace, name))
    messages: list[Any] = [{"role": "system", "content": SHARED}]
    for turn in range(turns):
        base: dict[str, Any] = {"schema_version": 1, "producer": "p", "platform": "shop"}
        moment = now() - timedelta(days=90 if turn < turns // 2 else 1, minutes=-turn)
        messages = [*messages, {"role": "user", "content": f"{who.canary} asks question {turn}"}]
        response = {"role": "assistant", "content": f"{who.canary} is told answer {turn}"}
        spoken = Interaction(
            id=new_id(), time=moment, sequence=turn, **base, conversation_id=who.conversation, user=who.user,
            messages=messages, response=response, success=True, turn=turn,
        )  # fmt: skip
        messages = [*messages, response]
        linked: dict[str, Any] = {"time": moment, "sequence": turn, **base, "interaction_id": spoken.id}
        who.records += [
            spoken,
            Step(id=new_id(), **linked, name="look_up", outputs=f"{who.canary} found"),
            Validation(id=new_id(), **linked, passed=True, score=90),
            Feedback(id=new_id(), **linked, kind="thumbs_up", comment=f"{who.canary} likes it", user=who.user),
        ]
    who.records.append(
        SessionEnd(
            id=new_id(), time=now(), sequence=99, schema_version=1, producer="p", platform="shop",
            session_id=f"session-of-{name}", conversation_id=who.conversation, user=who.user,
        )
    )  # fmt: skip
    return who


def workspace_user(workspace: Workspace, name: str) -> User:
    return load_pseudonymizer(workspace.path).user(name)


def spooled(path: Path, who: Person, **more: Any) -> str:
    """One more record of theirs, in the spool of a process that ended without delivering it."""
    client = Client(path, settings_of(path, **more))
    identity = client.capture(
        Interaction,
        {
            "platform": "shop",
            "conversation_id": who.conversation,
            "user": who.user,
            "messages": [{"role": "user", "content": f"{who.canary} spooled"}],
        },
    )
    client.flush()
    client.close(0)
    return identity


def fill(path: Path, **more: Any) -> tuple[Person, Person]:
    """Make the workspace; Ann is given first."""
    with Workspace.open(path, settings=settings_of(path, **more)) as workspace:
        ann, bob = person(workspace, "ann"), person(workspace, "bob")
        crowd = [person(workspace, f"other{number}") for number in range(3)]
        for group in zip(*(who.records for who in (ann, bob, *crowd)), strict=True):
            assert workspace.store.append(group).refused == ()
        for who in (ann, bob):
            beside(workspace, who)
        workspace.archive(days_old=30)
        workspace.build_dataset()
        workspace.export("default", "openai-chat")
        workspace.note_model("default", "model-of-all")
    for who in (ann, bob):
        spooled(path, who, **more)
    return ann, bob


def beside(workspace: Workspace, who: Person) -> None:
    """Everything that is not in the store."""
    path = workspace.path
    turn = who.records[0]
    assert isinstance(turn, Interaction)
    write_transcript(path / "transcripts", turn)
    said = who.records[3]
    assert isinstance(said, Feedback)
    write_feedback(path / "feedback", said)
    write_tree(who.records, path / "gepeto")
    late = msgspec.structs.replace(turn, id=new_id())
    bury(path, encode(late), "poison", "nobody takes it", "p")
    workspace.store.quarantine(encode(late), "poison", "nobody takes it", "test")
    rejects = path / "rejects" / "openai-chat.jsonl"
    rejects.parent.mkdir(exist_ok=True)
    with rejects.open("ab") as file:
        raw = f"{{{who.canary} in {who.conversation} cannot be read"
        file.write(msgspec.json.encode({"reason": "not_json", "raw": raw}) + b"\n")


def places_of(workspace: Workspace, who: Person) -> Iterator[str]:
    """The places where something of theirs lies."""
    _, places = workspace.preview_erasure("user", who.name)
    yield from (name for name, number in places.items() if number)
