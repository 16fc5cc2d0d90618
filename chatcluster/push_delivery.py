"""Tells browsers that answers are there: claims notices, sends them, and writes what became of each.

Every replica that has a push key looks every two seconds, and none is in charge: a notice is claimed for a minute by
the replica that comes first, so it is sent once, also when the replica that ended the turn died right after its commit.

=====================================  ==============================================
the service took it                    the notice is deleted
404 or 410, or no public address       the browser is gone: the subscription is deleted, with its notices
400, 401, 403, 413                     it will never be taken: the notice is deleted, and the log says so
anything else, or no answer            it is sent again after 5 s, 30 s, 2 min and 10 min, or when the service says
the sender dies                        another replica claims it after a minute; a browser that had it shows it once
=====================================  ==============================================

Nothing waits for a push service but this loop: a turn has ended when its notices are written.
"""

from __future__ import annotations

import random

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.errors import StoreUnavailable
from chatcluster.ports.push import Answer, Push, PushNotice, PushSender, Sent

LOOK_SECONDS = 2.0
CLAIM_SECONDS = 60.0
"""Longer than a sending takes, at most."""
BATCH = 20
RETRY_SECONDS = (5.0, 30.0, 120.0, 600.0)
TITLE_CHARS_MAX = 120
WORDS = {"finished": "The answer is complete.", "error": "The answer failed."}


class PushDelivery:
    def __init__(self, push: Push, sender: PushSender) -> None:
        self._push = push
        self._sender = sender

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            await trio.sleep(LOOK_SECONDS * random.uniform(0.75, 1.25))
            try:
                while await self.deliver() == BATCH:
                    pass
            except StoreUnavailable as error:
                telemetry.event("push.failed", error=str(error))
            except Exception as error:  # noqa: BLE001 - no message is worth a replica
                telemetry.event("push.crashed", error=repr(error), exc_info=error)

    async def deliver(self) -> int:
        """Send what is due. Returns how many that were. Raises ``StoreUnavailable``."""
        notices = await self._push.claim(limit=BATCH, seconds=CLAIM_SECONDS)
        async with trio.open_nursery() as nursery:
            for notice in notices:
                nursery.start_soon(self._tell, notice)
        return len(notices)

    async def _tell(self, notice: PushNotice) -> None:
        try:
            answer = await self._sender.send(notice.subscription, payload_of(notice), topic=notice.chat_id.hex)
            fields = {"attempts": notice.attempts, "reason": answer.reason}
            telemetry.event("push.sent", chat_id=str(notice.chat_id), became=str(answer.sent), **fields)
            await self._write(notice, answer)
        except StoreUnavailable as error:
            telemetry.event("push.failed", error=str(error))
        except Exception as error:  # noqa: BLE001 - the others that are due are sent all the same
            telemetry.event("push.crashed", chat_id=str(notice.chat_id), error=repr(error), exc_info=error)

    async def _write(self, notice: PushNotice, answer: Answer) -> None:
        if answer.sent is Sent.GONE:
            await self._push.forget(notice.subscription.id)
        elif answer.sent is Sent.LATER and notice.attempts <= len(RETRY_SECONDS):
            wait_seconds = RETRY_SECONDS[max(0, notice.attempts - 1)]
            seconds = wait_seconds if answer.after_seconds is None else answer.after_seconds
            await self._push.postpone(notice.id, seconds=seconds)
        else:
            await self._push.told(notice.id)


def payload_of(notice: PushNotice) -> bytes:
    """What the page's service worker shows: a title, a few words, and where a press leads."""
    title = notice.title if len(notice.title) <= TITLE_CHARS_MAX else notice.title[: TITLE_CHARS_MAX - 1] + "…"
    shown = {
        "title": title or "Untitled",
        "body": WORDS.get(notice.outcome, WORDS["finished"]),
        "path": f"/chats/{notice.chat_id}",
        "tag": f"{notice.chat_id}",
    }
    return msgspec.json.encode(shown)
