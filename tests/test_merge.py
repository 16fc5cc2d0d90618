"""What is shown of a chat, and in which order, whichever comes first: its frames, or what the database says (P3)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from chat_values import chat_at_work

from chatcluster.chat import Retry, Status
from chatcluster.frames import AttemptFrame, CloseFrame, FrameBody, PartFrame, frame
from chatcluster.merge import Merge
from chatcluster.parts import START, Frame, Message, Position, Role, TextPart
from chatcluster.ports import Chat, ChatRead, Outcome
from chatcluster.relay import Tenure
from chatcluster.shown import Notice, Snapshot

WORKER = UUID(int=1)
EPOCH = 3


class Stream:
    """The source of the frames: what it was asked to follow."""

    def __init__(self) -> None:
        self.healthy = True
        self.followed: list[Tenure] = []

    def begin(self, tenure: Tenure, *, at_end: bool) -> None:
        self.followed.append(tenure)

    def follow(self, tenure: Tenure, *, changed: bool, anew: bool) -> bool:
        self.followed.append(tenure)
        return not anew


class Told:
    """A reader that joined at the beginning."""

    def __init__(self) -> None:
        self.story: list[str] = []

    def offer(self, notice: Notice) -> None:
        value = notice.value
        if isinstance(value, Message):
            self.story.append(f"message {value.revision}")
        elif isinstance(value, Frame):
            self.story.append(f"frame {value.position}")

    def restart(self, snapshot: Snapshot) -> None:
        self.story.append(f"restart {snapshot.version}")

    def cut(self, reason: str) -> None:
        raise AssertionError(reason)


class Scene:
    """A running chat whose first message is history, and whose first attempt is under way."""

    def __init__(self) -> None:
        self.stream, self.told = Stream(), Told()
        self.stirred = 0
        self.merge = Merge(self.stream, stir=self._stir, announce=lambda: None)
        self.merge.begin(ChatRead(chat(2), (), ()))
        self.merge.shown.add(self.told)

    def _stir(self) -> None:
        self.stirred += 1

    def attempt(self, seq: int, history_version: int = 1, number: int = 1, snapshot_version: int = 2) -> None:
        self._take(seq, AttemptFrame(number, history_version, snapshot_version))

    def say(self, seq: int) -> None:
        self._take(seq, PartFrame(1, TextPart("word ")))

    def close(self, seq: int) -> None:
        self._take(seq, CloseFrame("finished"))

    def _take(self, seq: int, body: FrameBody) -> None:
        self.merge.take([frame(Position(EPOCH, seq), body)])

    def read(self, version: int, *messages: Message, went_back: bool = False, **fields: Any) -> None:
        read = ChatRead(chat(version, **fields), messages, ())
        self.merge.apply(read, looks=self.merge.looks, went_back=went_back)
        self.merge.take_rest()


def chat(version: int, history_version: int = 1, *, status: Status = Status.RUNNING, **fields: Any) -> Chat:
    owner: dict[str, Any] = {"epoch": EPOCH, "worker_id": WORKER if status is Status.RUNNING else None, "attempt": 1}
    versions = {"snapshot_version": version, "history_version": history_version}
    return chat_at_work(**owner | versions | {"status": status} | fields)


def answer(revision: int, seq: int | None) -> Message:
    """A message that came from the frames up to ``seq``."""
    position = None if seq is None else str(Position(EPOCH, seq))
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Message(revision, Role.ASSISTANT, (TextPart("word word "),), revision, now, position=position)


def commit(version: int, *messages: Message, replayed: bool = False, **fields: Any) -> Outcome:
    return Outcome(chat(version, **fields), messages, replayed=replayed)


def test_frames_of_an_attempt_at_the_history_shown_are_shown_as_they_come() -> None:
    scene = Scene()
    scene.attempt(1)
    scene.say(2)
    assert scene.told.story == ["frame 3-1", "frame 3-2"]
    assert not scene.merge.lacks_read


def test_frames_that_build_on_a_newer_history_ask_for_it_and_wait() -> None:
    scene = Scene()
    scene.attempt(1, history_version=5, snapshot_version=6)
    scene.say(2)
    asked = (scene.merge.lacks_read, scene.merge.is_busy, scene.stirred > 0)
    assert (scene.told.story, asked) == ([], (True, True, True))
    scene.read(6, answer(5, None), history_version=5)
    assert scene.told.story == ["message 5", "frame 3-1", "frame 3-2"]
    assert not scene.merge.is_busy


def test_frames_of_an_attempt_at_an_older_history_are_dropped() -> None:
    scene = Scene()
    scene.read(6, answer(5, None), history_version=5)
    scene.attempt(1)
    scene.say(2)
    assert scene.told.story == ["message 5"]


def test_frames_of_an_attempt_that_is_known_to_have_failed_are_dropped() -> None:
    scene = Scene()
    scene.read(3, failed=1)
    scene.attempt(1)
    scene.say(2)
    assert scene.told.story == []


def test_a_message_waits_for_the_frames_that_it_came_from() -> None:
    scene = Scene()
    scene.attempt(1)
    scene.read(6, answer(5, seq=2), history_version=5, status=Status.WAITING)
    waited = scene.merge.waits
    assert (scene.told.story, waited) == (["frame 3-1"], True)
    scene.say(2)
    assert scene.told.story == ["frame 3-1", "frame 3-2", "message 5"]
    assert not scene.merge.waits
    assert scene.merge.shown.version == 6


def test_a_message_that_has_waited_long_enough_is_shown_without_its_frames() -> None:
    scene = Scene()
    scene.read(6, answer(5, seq=2), history_version=5, status=Status.WAITING)
    scene.merge.show_waiting(at_once=True)
    assert scene.told.story == ["message 5"]
    scene.attempt(1)
    scene.say(2)
    assert scene.told.story == ["message 5"], "what comes late is of an older history"


def test_without_the_stream_no_message_waits() -> None:
    scene = Scene()
    scene.stream.healthy = False
    scene.read(6, answer(5, seq=2), history_version=5)
    assert scene.told.story == ["message 5"]


def test_the_end_of_a_tenure_makes_somebody_look() -> None:
    scene = Scene()
    scene.close(1)
    lacked = scene.merge.lacks_read
    assert lacked
    scene.read(2)
    assert not scene.merge.lacks_read, "what is not there was only said"


def test_what_was_said_while_it_was_read_is_read_again() -> None:
    scene = Scene()
    looks = scene.merge.looks
    scene.merge.look(9)
    scene.merge.apply(ChatRead(chat(3), (), ()), looks=looks, went_back=False)
    assert scene.merge.lacks_read


def test_history_that_goes_back_is_followed_from_the_start_of_its_stream() -> None:
    scene = Scene()
    scene.read(6, answer(5, None), history_version=5)
    assert scene.merge.has_forgotten(ChatRead(chat(2), (), ()))
    scene.read(2, answer(1, None), went_back=True)
    assert scene.told.story == ["message 5", "message 1"]
    assert scene.merge.chat.snapshot_version == 2
    assert scene.merge.shown.position == Position(0, 0)


def test_history_that_goes_back_in_a_read_from_before_a_look_is_read_again() -> None:
    scene = Scene()
    scene.read(6, answer(5, None), history_version=5)
    looks = scene.merge.looks
    scene.merge.look(9)  # by a reader that was shown this elsewhere, after the failover that this read tells of
    scene.merge.apply(ChatRead(chat(2), (answer(1, None),), ()), looks=looks, went_back=True)
    assert scene.merge.is_behind, "the reader waits: it is not told that what it has seen is lost"
    assert scene.merge.lacks_read
    scene.read(2)
    assert not scene.merge.is_behind


def test_p3_after_a_rewrite_no_frame_counts_as_shown() -> None:
    """Another replica may still go on with the answer: who resumes there has been shown nothing of it."""
    scene = Scene()
    scene.attempt(1)
    scene.say(2)
    scene.read(5, answer(5, None), history_version=5, epoch=EPOCH + 1, reset_version=4)
    assert scene.told.story == ["frame 3-1", "frame 3-2", "message 5"]
    assert scene.merge.shown.position == START


def test_p3_nor_after_one_that_takes_the_end_of_an_attempt_back() -> None:
    scene = Scene()
    scene.attempt(1)
    scene.read(3, retry=Retry(1, 100, "busy", "overloaded"))
    assert not scene.merge.shown.preview.positions
    scene.read(14, reset_version=13, went_back=True)
    assert scene.merge.shown.position == START


# --- commits of the same replica --------------------------------------------------------------


def test_a_commit_of_the_very_next_version_takes_the_place_of_a_read() -> None:
    scene = Scene()
    scene.attempt(1)
    scene.say(2)
    assert scene.merge.takes_commit(commit(3, answer(3, seq=2), history_version=3, status=Status.WAITING))
    assert scene.told.story == ["frame 3-1", "frame 3-2", "message 3"]
    assert (scene.merge.shown.version, scene.merge.lacks_read) == (3, False)


def test_a_commit_that_is_taken_waits_for_its_frames_like_what_was_read() -> None:
    scene = Scene()
    scene.attempt(1)
    assert scene.merge.takes_commit(commit(3, answer(3, seq=2), history_version=3, status=Status.WAITING))
    assert (scene.told.story, scene.merge.waits) == (["frame 3-1"], True)
    assert not scene.merge.takes_commit(commit(4)), "it comes behind what waits"
    scene.say(2)
    assert scene.told.story == ["frame 3-1", "frame 3-2", "message 3"]


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param(commit(2), id="known"),
        pytest.param(commit(4), id="not the next"),
        pytest.param(commit(3, replayed=True), id="a repeat"),
        pytest.param(commit(3, reset_version=3), id="history was rewritten"),
        pytest.param(commit(3, queue_version=3), id="another queue"),
        pytest.param(commit(3, open_calls=1), id="open calls"),
        pytest.param(commit(3, has_agents=True), id="agents"),
    ],
)
def test_a_commit_that_does_not_tell_all_is_read(outcome: Outcome) -> None:
    scene = Scene()
    scene.merge.look(outcome.chat.snapshot_version)
    assert not scene.merge.takes_commit(outcome)
    assert scene.merge.chat == chat(2)
    assert scene.merge.lacks_read == (outcome.chat.snapshot_version > 2)


def test_what_is_newer_than_a_commit_is_looked_for_all_the_same() -> None:
    scene = Scene()
    scene.merge.look(9)
    assert scene.merge.takes_commit(commit(3))
    assert scene.merge.lacks_read
