"""The way to Redis: what a URL says, and TCP, TLS and Unix sockets, whatever the network does to the bytes."""

from __future__ import annotations

import ssl
from functools import partial
from pathlib import Path

import pytest
import trio
from redis_doors import CERTIFICATE, open_tcp_door, open_tls_door, open_unix_door

from chatcluster.errors import ConfigError, StreamsUnavailable
from chatcluster.redis import connections as subject
from chatcluster.redis.connections import Reply, open_redis
from chatcluster.redis.errors import ErrorReply
from chatcluster.redis.transport import RedisAddress, parse_address


class TestURL:
    @pytest.mark.parametrize(
        ("url", "address"),
        [
            ("redis://", RedisAddress()),
            ("redis://cache", RedisAddress(host="cache")),
            ("redis://cache:7000/3", RedisAddress(host="cache", port=7000, database=3)),
            ("redis://cache?db=4&client_name=me", RedisAddress(host="cache", database=4, client_name="me")),
            ("redis://:se%2Fcret@cache", RedisAddress(host="cache", password="se/cret")),
            ("redis://me:secret@[::1]:7000/", RedisAddress("::1", 7000, username="me", password="secret")),
            ("redis://cache?username=me&password=secret", RedisAddress("cache", username="me", password="secret")),
            ("redis://?host=cache&port=7000", RedisAddress("cache", 7000)),
            ("unix:///run/redis.sock?db=2", RedisAddress(path="/run/redis.sock", database=2)),
            (
                "unix://me:secret@/run/redis.sock",
                RedisAddress(path="/run/redis.sock", username="me", password="secret"),
            ),
        ],
    )
    def test_it_says_where_the_server_is_and_who_we_are(self, url: str, address: RedisAddress) -> None:
        assert parse_address(url) == address

    @pytest.mark.parametrize(
        ("url", "complaint"),
        [
            ("localhost:6379", "redis://, rediss://, unix://"),
            ("redis://cache:port", "its port is not a number"),
            ("redis://cache?port=70000", "its port is out of range"),
            ("redis://cache..local", "label empty"),
            ("redis://cache/first", "its database is not a number"),
            ("redis://cache?db=first", "'db'"),
            ("unix://", "it has no path"),
            ("redis://cache?colour=red&socket_timeout=5", "not understood here: colour, socket_timeout"),
            ("redis://cache?ssl_ca_certs=/ca.pem", "not understood here: ssl_ca_certs"),
            ("unix:///run/redis.sock?host=cache", "not understood here: host"),
            ("rediss://cache?ssl_validate_ocsp=yes", "not understood here: ssl_validate_ocsp"),
            ("rediss://cache?ssl_cert_reqs=perhaps", "none, optional, required"),
            ("rediss://cache?ssl_min_version=7", "7"),
            ("rediss://cache?ssl_ca_certs=/no/such/file", "TLS files"),
            (f"rediss://cache?ssl_certfile={__file__}", "TLS files"),
        ],
    )
    def test_what_is_not_understood_is_a_wrong_setting(self, url: str, complaint: str) -> None:
        with pytest.raises(ConfigError, match=f"the Redis URL .*{complaint}"):
            parse_address(url)

    def test_a_password_is_not_shown(self) -> None:
        assert "secret" not in repr(parse_address("redis://me:secret@cache"))
        for character in "/?#":
            with pytest.raises(ConfigError, match="%2F") as caught:
                parse_address(f"redis://:secret{character}3@cache")
            assert "secret" not in str(caught.value)

    def test_tls_checks_the_server_unless_told_otherwise(self) -> None:
        checks = {
            options: (tls.verify_mode, tls.check_hostname)
            for options in ("", "ssl_check_hostname=false", "ssl_cert_reqs=optional", "ssl_cert_reqs=none")
            if (tls := parse_address(f"rediss://cache?{options}").tls)
        }
        assert checks == {
            "": (ssl.CERT_REQUIRED, True),
            "ssl_check_hostname=false": (ssl.CERT_REQUIRED, False),
            "ssl_cert_reqs=optional": (ssl.CERT_OPTIONAL, True),
            "ssl_cert_reqs=none": (ssl.CERT_NONE, False),
        }

    def test_tls_is_as_strict_as_the_url_says(self) -> None:
        tls = parse_address("rediss://cache?ssl_min_version=772&ssl_ciphers=ECDHE-RSA-AES256-GCM-SHA384").tls
        assert tls is not None
        assert tls.minimum_version is ssl.TLSVersion.TLSv1_3
        assert "ECDHE-RSA-AES256-GCM-SHA384" in {cipher["name"] for cipher in tls.get_ciphers()}
        assert "ECDHE-RSA-AES128-GCM-SHA256" not in {cipher["name"] for cipher in tls.get_ciphers()}


class TestTLS:
    TRUST = f"?ssl_ca_certs={CERTIFICATE}"

    async def test_commands_and_messages_pass(self, empty_redis_url: str) -> None:
        large = b"x" * 1_000_000
        async with open_tls_door(empty_redis_url) as url, open_redis(url + self.TRUST) as connection:
            assert await connection.exchange([("ECHO", "a"), ("ECHO", large)]) == [b"a", large]
            assert await connection.exchange([("ECHO", "b")]) == [b"b"]
            assert await first_message(connection) == b"hello"

    @pytest.mark.parametrize("options", ["", "?ssl_cert_reqs=required"])
    async def test_a_server_that_nobody_vouches_for_is_not_talked_to(self, empty_redis_url: str, options: str) -> None:
        async with open_tls_door(empty_redis_url) as url, open_redis(url + options) as connection:
            with pytest.raises(StreamsUnavailable, match="certificate verify failed"):
                await connection.exchange([("PING",)])

    async def test_nor_is_one_of_another_name_unless_the_url_says_so(self, empty_redis_url: str) -> None:
        async with open_tls_door(empty_redis_url) as localhost:
            url = localhost.replace("localhost", "127.0.0.1") + self.TRUST
            async with open_redis(url) as connection:
                with pytest.raises(StreamsUnavailable, match="IP address mismatch"):
                    await connection.exchange([("PING",)])
            async with open_redis(url + "&ssl_check_hostname=false") as connection:
                assert await connection.exchange([("PING",)]) == [b"PONG"]

    async def test_the_next_batch_after_a_broken_one_connects_anew(self, empty_redis_url: str) -> None:
        async with open_tls_door(empty_redis_url) as url, open_redis(url + self.TRUST) as connection:
            with pytest.raises(StreamsUnavailable):
                await connection.exchange([("QUIT",), ("PING",)])
            assert await connection.exchange([("PING",)]) == [b"PONG"]


async def test_commands_and_messages_pass_through_a_unix_socket(empty_redis_url: str, tmp_path: Path) -> None:
    async with open_unix_door(empty_redis_url, tmp_path / "socket") as url, open_redis(url) as connection:
        assert await connection.exchange([("ECHO", "a"), ("ECHO", "b")]) == [b"a", b"b"]
        assert await first_message(connection) == b"hello"


async def test_a_unix_socket_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async with open_redis(f"unix://{tmp_path}/socket") as connection:
        with pytest.raises(StreamsUnavailable, match="No such file"):
            await connection.exchange([("PING",)])


async def test_replies_that_arrive_byte_by_byte_are_those_that_were_sent(empty_redis_url: str) -> None:
    async with open_tcp_door(empty_redis_url, byte_by_byte=True) as (url, _), open_redis(url) as connection:
        nothing, error, echo, number, entries = await connection.exchange(
            [("GET", "none"), ("LPOP",), ("ECHO", b"\r\n$3\r\n"), ("INCR", "n"), ("CONFIG", "GET", "port")]
        )
        assert (nothing, echo, number) == (None, b"\r\n$3\r\n", 1)
        assert isinstance(error, ErrorReply)
        assert isinstance(entries, list)
        assert entries[0] == b"port"
        assert await first_message(connection) == b"hello"


async def test_a_batch_larger_than_what_sockets_hold_passes(empty_redis_url: str) -> None:
    large = bytes(range(256)) * 50_000
    async with open_redis(empty_redis_url) as connection:
        assert await connection.exchange([("ECHO", large), ("ECHO", "small")]) == [large, b"small"]


async def test_a_connection_that_the_server_closed_while_idle_fails_no_batch(empty_redis_url: str) -> None:
    async with open_redis(empty_redis_url) as connection, open_redis(empty_redis_url) as other:
        (first,) = await connection.exchange([("CLIENT", "ID")])
        await other.exchange([("CLIENT", "KILL", "TYPE", "normal")])
        (second, count) = await connection.exchange([("CLIENT", "ID"), ("INCR", "count")])
        assert second != first
        assert count == 1


async def test_what_a_server_says_unasked_is_not_taken_for_an_answer(empty_redis_url: str) -> None:
    async with open_tcp_door(empty_redis_url) as (url, door), open_redis(url) as connection:
        await connection.exchange([("PING",)])
        await door.say(b"$4\r\nlate\r\n")
        assert await connection.exchange([("ECHO", "new")]) == [b"new"]
        assert door.entered == 2


async def test_a_connection_is_used_again_as_long_as_nothing_happens_to_it(empty_redis_url: str) -> None:
    async with open_tcp_door(empty_redis_url) as (url, door), open_redis(url) as connection:
        for _ in range(3):
            await connection.exchange([("PING",)])
        assert door.entered == 1


async def test_a_server_that_does_not_speak_redis_is_unavailable(nursery: trio.Nursery) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    listener, *_ = await nursery.start(partial(trio.serve_tcp, refuse, 0, host="127.0.0.1"))
    async with open_redis(f"redis://127.0.0.1:{listener.socket.getsockname()[1]}") as connection:
        with pytest.raises(StreamsUnavailable, match="Protocol error"):
            await connection.exchange([("PING",)])


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_a_server_that_takes_connections_and_says_nothing_is_given_up_soon(
    scheme: str, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def say_nothing(_: trio.SocketStream) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(subject, "CONNECT_SECONDS", 0.1)
    listener, *_ = await nursery.start(partial(trio.serve_tcp, say_nothing, 0, host="127.0.0.1"))
    async with open_redis(f"{scheme}://127.0.0.1:{listener.socket.getsockname()[1]}") as connection:
        given_up = pytest.raises(StreamsUnavailable, match=r"no connection to Redis within 0\.1 s")
        with trio.fail_after(10), given_up:
            await connection.exchange([("PING",)])
        with trio.fail_after(10), given_up:
            async with connection.listen():
                pytest.fail("there is nothing to listen to")


async def first_message(connection: subject.RedisConnection) -> object:
    """The first message on a channel that is followed for it."""
    send, receive = trio.open_memory_channel[object](1)

    def hear(reply: Reply) -> None:
        match reply:
            case [b"message", _, payload]:
                send.send_nowait(payload)
            case [b"subscribe", *_]:
                nursery.start_soon(connection.exchange, [("PUBLISH", "channel", "hello")])

    with trio.fail_after(10):
        async with connection.listen() as listener, trio.open_nursery() as nursery:
            nursery.start_soon(listener.run, hear)
            await listener.send([("SUBSCRIBE", "channel")])
            message = await receive.receive()
            nursery.cancel_scope.cancel()
    return message
