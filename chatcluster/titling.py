"""Names chats by a model, beside their turns: no turn, no owner and no reader waits for it.

A chat whose creator gave no title is called by its first words, and wants a better one from the transaction on that
creates it. The replica that takes it (as a rule the one that created the chat) has ``TAKEN_SECONDS`` for one try; then
any other may take it. So a replica that dies in between leaves it to the next look of another, and all of it is done
within half a minute.

What happens on failure: a try that fails, or gives nothing that is a title, is booked; the next one asks the model's
first fall-back, if it has one; and after ``TRIES_MAX`` the first words stay. A person's own title ends it, at any
moment. While Postgres is away nothing is taken. At most ``CONCURRENT_MAX`` chats are named at a time here; the others
wait.
"""

from __future__ import annotations

from datetime import UTC, datetime

import trio

from chatcluster import telemetry, trace_context
from chatcluster.config import Settings
from chatcluster.errors import ProviderError, StoreUnavailable
from chatcluster.notices import Notices
from chatcluster.parts import Message, Role, TextPart
from chatcluster.ports import Delta, Finished, Meter, Model, ModelRequest, Stints
from chatcluster.ports.outside import one_stint
from chatcluster.ports.titles import Titles, TitleTask
from chatcluster.title_text import ASKED_CHARS_MAX, TITLE_INSTRUCTION, title_in
from chatcluster.usage import TITLE_VERSION, Spent, SpentOutcome, cost_micros, counts_of

POLL_SECONDS = 4.0
ASK_SECONDS_MAX = 15.0
TAKEN_SECONDS = 18.0
TRIES_MAX = 2
CONCURRENT_MAX = 8
SAID_CHARS_MAX = 64 << 10
"""So much of an answer is read: some local models think in their words before they say a title."""
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)


class Titling:
    """``run`` names chats until it is cancelled."""

    def __init__(
        self, titles: Titles, model: Model, notices: Notices, settings: Settings, *, stints: Stints = one_stint
    ) -> None:
        self._titles = titles
        self._model = model
        self._stints = stints
        self._notices = notices
        self._settings = settings
        self._wake = trio.Event()
        self._under_way = 0

    def __repr__(self) -> str:
        return f"<Titling {self._under_way}/{CONCURRENT_MAX}>"

    def wanted(self) -> None:
        """There is a chat to name."""
        self._wake.set()

    async def run(self) -> None:
        if not (self._settings.turns.titles and self._settings.replica.slots):
            return
        async with trio.open_nursery() as nursery:
            while True:
                self._wake = trio.Event()
                await self._take(nursery)
                with trio.move_on_after(POLL_SECONDS):
                    await self._wake.wait()

    async def _take(self, nursery: trio.Nursery) -> None:
        free = CONCURRENT_MAX - self._under_way
        if free <= 0:
            return  # whoever ends looks again
        try:
            tasks = await self._titles.take(free, seconds=TAKEN_SECONDS)
        except StoreUnavailable as error:
            telemetry.event("titles.unavailable", error=str(error))
            return
        for task in tasks:
            self._under_way += 1
            nursery.start_soon(self._name, task)

    async def _name(self, task: TitleTask) -> None:
        try:
            await self._try(task)
        except StoreUnavailable as error:
            telemetry.event("titles.unavailable", error=str(error))
        except Exception as error:  # noqa: BLE001 - one chat without a title is no end of the others
            telemetry.event("titles.crashed", chat_id=str(task.chat_id), error=repr(error), exc_info=error)
        finally:
            self._under_way -= 1
            self._wake.set()

    async def _try(self, task: TitleTask) -> None:
        meter = Meter()
        title = None
        if task.number <= TRIES_MAX and task.text.strip():
            try:
                title = title_in(await self._ask_in_time(task, meter))
            except (ProviderError, trio.TooSlowError) as error:
                telemetry.event("titles.failed", chat_id=str(task.chat_id), error=type(error).__name__)
        spent = _spent(task, meter)
        if title is None and task.number < TRIES_MAX and task.text.strip():
            await self._titles.book(task, spent)
            return
        chat = await self._titles.entitle(task, title, spent)
        if chat is not None and title is not None:
            self._notices.committed(chat, "title")

    async def _ask_in_time(self, task: TitleTask, meter: Meter) -> str:
        fields = {"chat_id": str(task.chat_id), "purpose": "title", "attempt": task.number}
        with telemetry.span("model.asked", **fields) as told:
            try:
                with trace_context.working("model.asked", fields), trio.fail_after(ASK_SECONDS_MAX):
                    return await self._ask(task, meter)
            except (ProviderError, trio.TooSlowError) as error:
                told["kind"] = error.kind if isinstance(error, ProviderError) else "timeout"
                raise
            finally:
                told |= meter.told

    async def _ask(self, task: TitleTask, meter: Meter) -> str:
        """What the model says, as far as a title could reach; nothing where it refuses to."""
        said, room = list[str](), SAID_CHARS_MAX
        async with self._model.stream(self._request(task, meter)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    meter.has_started = True
                    if isinstance(event.part, TextPart):
                        said.append(event.part.text[:room])
                        room -= len(said[-1])
                elif isinstance(event, Finished):
                    meter.count(event.usage)
                    if event.reason == "content_filter":
                        return ""
                    break
        return "".join(said)

    def _request(self, task: TitleTask, meter: Meter) -> ModelRequest:
        messages = (
            _message(1, Role.SYSTEM, TITLE_INSTRUCTION),
            _message(2, Role.USER, task.text[:ASKED_CHARS_MAX]),
        )
        model = self._settings.turns.title_model or task.model
        failures = (self._stints(model, 0).end or 0) if task.number > 1 else 0
        return ModelRequest(
            task.chat_id, messages, model, may_search=False, is_aside=True, failures=failures, meter=meter
        )


def _message(number: int, role: Role, text: str) -> Message:
    return Message(number, role, (TextPart(text),), 1, BEGINNING)


def _spent(task: TitleTask, meter: Meter) -> tuple[Spent, ...]:
    if not meter.has_started:
        return ()
    return (
        Spent(
            TITLE_VERSION,
            task.number,
            0,
            SpentOutcome.TITLE,
            meter.model or task.model,
            meter.provider,
            cost_micros=cost_micros(meter.usage, meter.prices),
            **counts_of(meter.usage),
        ),
    )
