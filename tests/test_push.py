"""Web push: only the browser can read it, only public services are sent to, and each turn is told once."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec
from push_service import Browser, PushService, claims_of, unb64

from chatcluster.errors import ConfigError, InvalidRequest, StoreUnavailable
from chatcluster.host_names import LOOK_UPS_MAX
from chatcluster.ports.push import Answer, PushNotice, Sent, Subscription
from chatcluster.push_delivery import BATCH, PushDelivery, payload_of
from chatcluster.push_encryption import PAYLOAD_BYTES_MAX, VapidKey, check_browser_keys, encrypted, new_push_key
from chatcluster.push_endpoints import checked_endpoint, is_public
from chatcluster.push_sender import HttpPushSender
from chatcluster.push_sender import _answer as answered

CHAT = UUID(int=7)


# --- encryption -------------------------------------------------------------------------------


def test_a_message_is_encrypted_as_the_example_of_rfc_8291_is() -> None:
    private = ec.derive_private_key(
        int.from_bytes(unb64("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw")), ec.SECP256R1()
    )
    body = encrypted(
        b"When I grow up, I want to be a watermelon",
        unb64("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"),
        unb64("BTBZMqHH6r4Tts7J_aSIgg"),
        private=private,
        salt=unb64("DGv6ra1nlYgDCS1FRnbzlw"),
    )
    assert body == unb64(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl"
        "7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


def test_the_longest_message_fits_into_one_record_and_no_two_are_alike() -> None:
    browser = Browser()
    said = b"x" * PAYLOAD_BYTES_MAX
    bodies = [encrypted(said, browser.public, browser.auth) for _ in range(2)]
    assert bodies[0] != bodies[1]
    assert [browser.read(body) for body in bodies] == [said, said]
    assert len(bodies[0]) == 4096


def test_the_deployment_signs_what_it_claims_for_each_service() -> None:
    key = VapidKey.parse(new_push_key())
    public, claims = claims_of(key.authorization("https://push.example", "mailto:a@b.example", now=1000.0))
    assert public == key.public
    assert claims == {"aud": "https://push.example", "exp": 1000 + 12 * 3600, "sub": "mailto:a@b.example"}


@pytest.mark.parametrize("text", ["", "x", "AA", "é", "A" * 100])
def test_a_key_that_is_none_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError, match="push-key must be") as refused:
        VapidKey.parse(text)
    assert not text or len(text) < 3 or text not in str(refused.value)


@pytest.mark.parametrize(
    ("p256dh", "auth"),
    [(b"", b"a" * 16), (b"\4" + bytes(64), b"a" * 16), (Browser().public, b"short")],
    ids=["no key", "no point", "short secret"],
)
def test_keys_that_no_browser_has_are_refused(p256dh: bytes, auth: bytes) -> None:
    with pytest.raises(InvalidRequest, match="PushSubscription"):
        check_browser_keys(p256dh, auth)


# --- where to ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://push.example/1", "https://", "https://127.0.0.1/1", "https://[::1]/1", "https://localhost/1",
        "https://a.localhost/", "https://10.0.0.1/", "https://169.254.169.254/latest", "https://[::ffff:10.0.0.1]/",
        "https://user:pw@push.example/", "ftp://push.example/", "https://push.example:0/", "https://push.example/\n",
        "https://push.example/é", "https://push.example/ a", "https://push.example/" + "x" * 2000, "https://[", "",
    ],
)  # fmt: skip
def test_an_endpoint_that_is_no_public_https_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="endpoint must"):
        checked_endpoint(url, private_allowed=False)


def test_an_endpoint_of_ones_own_is_taken_where_that_is_allowed() -> None:
    assert checked_endpoint("http://127.0.0.1:8/x", private_allowed=True) == "http://127.0.0.1:8/x"
    assert checked_endpoint("https://push.example/x", private_allowed=False) == "https://push.example/x"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True), ("2606:4700::1", True), ("::ffff:8.8.8.8", True),
        ("10.1.2.3", False), ("127.0.0.1", False), ("169.254.169.254", False), ("0.0.0.0", False), ("224.0.0.1", False),
        ("100.64.0.1", False), ("::1", False), ("fe80::1%eth0", False), ("fd00::1", False), ("::ffff:127.0.0.1", False),
        ("64:ff9b::a00:1", False), ("2002:7f00:1::", False), ("ff02::1", False),
    ],
)  # fmt: skip
def test_an_address_is_public_or_not_whatever_it_is_written_in(address: str, expected: bool) -> None:
    assert is_public(address) is expected


# --- sending ----------------------------------------------------------------------------------


def subscription_at(endpoint: str, browser: Browser) -> Subscription:
    return Subscription(
        id=uuid4(), user_id=UUID(int=1), token_id="t", endpoint=endpoint, p256dh=browser.public, auth=browser.auth
    )


def sender(*, private_allowed: bool = True) -> HttpPushSender:
    return HttpPushSender(VapidKey.parse(new_push_key()), "mailto:a@b.example", private_allowed=private_allowed)


async def test_the_browser_reads_what_was_sent_and_the_service_knows_who_sent_it() -> None:
    browser = Browser()
    with PushService(browser) as service:
        answer = await sender().send(subscription_at(service.endpoint, browser), b'{"a":1}', topic=CHAT.hex)
    assert answer == Answer(Sent.TAKEN)
    assert service.said == [{"a": 1}]
    (headers,) = service.headers
    assert (headers["TTL"], headers["Topic"], headers["Content-Encoding"]) == ("86400", CHAT.hex, "aes128gcm")
    assert claims_of(headers["Authorization"])[1]["aud"] == service.endpoint.partition("/send")[0]


@pytest.mark.parametrize(
    ("status", "sent"),
    [(404, Sent.GONE), (410, Sent.GONE), (400, Sent.REFUSED), (413, Sent.REFUSED),
     (302, Sent.LATER), (429, Sent.LATER), (503, Sent.LATER)],
)  # fmt: skip
async def test_what_the_service_answers_says_what_becomes_of_it(status: int, sent: Sent) -> None:
    browser = Browser()
    with PushService(browser, status) as service:
        answer = await sender().send(subscription_at(service.endpoint, browser), b"{}", topic="t")
    assert (answer.sent, answer.reason) == (sent, f"status {status}")


async def test_nothing_is_sent_to_an_address_that_is_not_public() -> None:
    browser = Browser()
    with PushService(browser) as service:
        answer = await sender(private_allowed=False).send(subscription_at(service.endpoint, browser), b"{}", topic="t")
    assert (answer.sent, service.said) == (Sent.GONE, [])


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:9/x", "http://no.such.host.invalid/x", f"http://{'a' * 300}.example/"]
)
async def test_a_service_that_cannot_be_reached_is_tried_later(endpoint: str) -> None:
    answer = await sender().send(subscription_at(endpoint, Browser()), b"{}", topic="t")
    assert answer.sent is Sent.LATER


@pytest.mark.parametrize("endpoint", ["http://[", "http://127.0.0.1:99999/x", "http://127.0.0.1:x/"])
async def test_an_address_that_is_none_is_that_of_a_browser_that_is_gone(endpoint: str) -> None:
    """P10: however it came into the table."""
    answer = await sender().send(subscription_at(endpoint, Browser()), b"{}", topic="t")
    assert answer.sent is Sent.GONE


async def test_keys_that_nothing_can_be_encrypted_for_are_those_of_a_browser_that_is_gone() -> None:
    broken = msgspec.structs.replace(subscription_at("http://127.0.0.1:9/x", Browser()), p256dh=b"x")
    assert (await sender().send(broken, b"{}", topic="t")).sent is Sent.GONE


@pytest.mark.parametrize("said", ["Mon, 01 Jan 2024 00:00:00 +99999999999999999999", "1e400", "nan", "-1", "soon"])
def test_whatever_a_service_says_of_when_to_come_again_is_bounded(said: str) -> None:
    seconds = answered(503, said).after_seconds
    assert seconds is None or 0 <= seconds <= 600


async def test_names_that_nobody_answers_for_take_no_place_from_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """P10: a look-up has a thread until the resolver gives up, and the threads of the process are few."""
    answers, all_ask, asked = threading.Event(), trio.Event(), []

    def silent(*name: object, **_: object) -> list[object]:
        asked.append(name)
        if name[0] == "another":
            raise OSError("no such host")
        if len(asked) == LOOK_UPS_MAX:
            trio.from_thread.run_sync(all_ask.set)
        answers.wait(60)
        raise OSError("no answer")

    monkeypatch.setattr("chatcluster.push_sender.socket.getaddrinfo", silent)
    to, browser = sender(), Browser()
    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(partial(to.send, subscription_at(f"http://{number}/", browser), b"{}", topic="t"))
        with trio.fail_after(60):
            await all_ask.wait()
            assert await trio.to_thread.run_sync(lambda: "done") == "done"
            theirs = msgspec.structs.replace(subscription_at("http://another/", browser), user_id=uuid4())
            assert (await to.send(theirs, b"{}", topic="t")).reason == "OSError"
        assert len(asked) == LOOK_UPS_MAX + 1
        answers.set()


# --- delivery ---------------------------------------------------------------------------------


@dataclass
class ScriptedPush:
    due: list[PushNotice] = field(default_factory=list)
    done: list[tuple[Any, ...]] = field(default_factory=list)
    is_away: bool = False

    async def claim(self, *, limit: int, seconds: float) -> tuple[PushNotice, ...]:
        if self.is_away:
            raise StoreUnavailable("away")
        claimed, self.due = self.due[:limit], self.due[limit:]
        return tuple(claimed)

    async def told(self, notice_id: int) -> None:
        self.done.append(("told", notice_id))

    async def postpone(self, notice_id: int, *, seconds: float) -> None:
        self.done.append(("postponed", notice_id, seconds))

    async def forget(self, subscription_id: UUID) -> None:
        self.done.append(("forgotten", subscription_id))


BROKEN = b"broken"


@dataclass
class ScriptedSender:
    answer: Answer
    sent: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, subscription: Subscription, payload: bytes, *, topic: str) -> Answer:
        self.sent.append(json.loads(payload))
        if subscription.p256dh == BROKEN:
            raise ValueError("nobody foresaw this")
        return self.answer


def notice(number: int = 1, *, attempts: int = 1, title: str = "A chat", outcome: str = "finished") -> PushNotice:
    to = subscription_at("https://push.example/1", Browser())
    return PushNotice(id=number, subscription=to, chat_id=CHAT, title=title, outcome=outcome, attempts=attempts)


@pytest.mark.parametrize(
    ("answer", "attempts", "done"),
    [
        (Answer(Sent.TAKEN), 1, ("told", 1)),
        (Answer(Sent.REFUSED), 1, ("told", 1)),
        (Answer(Sent.LATER), 1, ("postponed", 1, 5.0)),
        (Answer(Sent.LATER), 4, ("postponed", 1, 600.0)),
        (Answer(Sent.LATER), 5, ("told", 1)),
        (Answer(Sent.LATER, after_seconds=77.0), 1, ("postponed", 1, 77.0)),
    ],
)
async def test_what_became_of_a_message_is_written(answer: Answer, attempts: int, done: tuple[Any, ...]) -> None:
    push = ScriptedPush([notice(attempts=attempts)])
    assert await PushDelivery(push, ScriptedSender(answer)).deliver() == 1  # type: ignore[arg-type]
    assert push.done == [done]


@pytest.mark.parametrize("attempts", [-1000, 0, 2**31])
async def test_a_number_of_attempts_that_cannot_be_is_none_the_worse(attempts: int) -> None:
    push = ScriptedPush([notice(attempts=attempts)])
    await PushDelivery(push, ScriptedSender(Answer(Sent.LATER))).deliver()  # type: ignore[arg-type]
    assert len(push.done) == 1


async def test_one_message_that_cannot_be_sent_keeps_none_of_the_others_that_are_due() -> None:
    """P10"""
    broken = notice(1)
    broken = msgspec.structs.replace(broken, subscription=msgspec.structs.replace(broken.subscription, p256dh=BROKEN))
    push = ScriptedPush([broken, notice(2), notice(3)])
    assert await PushDelivery(push, ScriptedSender(Answer(Sent.TAKEN))).deliver() == 3  # type: ignore[arg-type]
    assert sorted(push.done) == [("told", 2), ("told", 3)]


async def test_a_browser_that_is_gone_is_forgotten() -> None:
    gone = notice()
    push = ScriptedPush([gone])
    await PushDelivery(push, ScriptedSender(Answer(Sent.GONE))).deliver()  # type: ignore[arg-type]
    assert push.done == [("forgotten", gone.subscription.id)]


async def test_everything_that_is_due_is_sent_at_a_look_and_a_database_that_is_away_ends_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    push, to = ScriptedPush([notice(n) for n in range(2 * BATCH + 3)], is_away=True), ScriptedSender(Answer(Sent.TAKEN))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(PushDelivery(push, to).run)  # type: ignore[arg-type]
        await trio.sleep(30)
        push.is_away = False
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert len(push.done) == len(to.sent) == 2 * BATCH + 3


def test_a_message_says_which_chat_and_how_its_turn_ended_and_fits() -> None:
    said = json.loads(payload_of(notice(title="T" * 5000, outcome="error")))
    assert (len(said["title"]), said["body"], said["path"]) == (120, "The answer failed.", f"/chats/{CHAT}")
    assert len(payload_of(notice(title="\U0001f600" * 5000))) <= PAYLOAD_BYTES_MAX
    assert json.loads(payload_of(notice(title="")))["title"] == "Untitled"
