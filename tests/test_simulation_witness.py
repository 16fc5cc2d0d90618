"""What the judge of the simulated world sees in a burial: when an owner had to know that its chats are lost (P2)."""

from __future__ import annotations

from uuid import UUID

import pytest
from chat_values import chat_at_work
from checker.history import Violation
from simulation.trace import Trace
from simulation.witness import Witness

from chatcluster.ports import NO_ROW, Chat, Death, Proof, Silence

WORKER, CHAT = UUID(int=1), UUID(int=7)


class Working:
    """A process whose worker goes on with every chat."""

    name, thawed_at, alive, accepting, worker_id = "r1", 0.0, True, True, WORKER

    def works_on(self, chat_id: UUID) -> bool:
        return True


def freed() -> Chat:
    return chat_at_work(id=CHAT, snapshot_version=2, history_version=1, epoch=3, attempt=1)


@pytest.mark.parametrize(
    ("proof", "is_fault"),
    [
        pytest.param(Silence("renewal 3"), True, id="its lease had run out, which it knew by its own clock"),
        pytest.param(NO_ROW, True, id="its row is gone, and nobody has buried it"),
        pytest.param(Death("server 1"), False, id="its session was lost, which it learns no sooner than the others"),
        pytest.param(Silence("renewal 3", unlocked=True), False, id="its lease is not over, but its locks were free"),
    ],
)
def test_p2_a_chat_whose_row_was_locked_at_a_burial_is_judged_by_why_its_owner_was_buried(
    proof: Proof, is_fault: bool
) -> None:
    violations: list[Violation] = []
    witness = Witness(lambda: 0.0, Trace(), report=violations.append, attempt_failed=lambda _: None)
    witness.worker(WORKER, Working())
    witness.session_broke(WORKER)
    witness.buried(WORKER, [], proof)
    witness.buried(WORKER, [freed()], NO_ROW)
    assert [one.kind for one in violations] == (["owner_conflicts"] if is_fault else [])
