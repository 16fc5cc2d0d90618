"""A push service on this machine, and a browser that reads what it is sent: for tests, and a program of its own.

    python push_service.py      prints its address, and then a line of JSON for each message that it takes, decrypted

It shares no code with the sender: what it can read is what RFC 8291 says.
"""

from __future__ import annotations

import json
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _hmac(key: bytes, data: bytes) -> bytes:
    made = hmac.HMAC(key, hashes.SHA256())
    made.update(data)
    return made.finalize()


@dataclass
class Browser:
    """The keys of one subscription."""

    private: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    auth: bytes = bytes(range(16))

    @property
    def public(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    @property
    def keys(self) -> dict[str, str]:
        return {"p256dh": b64(self.public), "auth": b64(self.auth)}

    def read(self, body: bytes) -> bytes:
        """What was said. Raises for whatever was not meant for this browser."""
        salt, id_length = body[:16], body[20]
        sender, sealed = body[21 : 21 + id_length], body[21 + id_length :]
        shared = self.private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender))
        secret = _hmac(_hmac(self.auth, shared), b"WebPush: info\0" + self.public + sender + b"\1")
        seed = _hmac(salt, secret)
        key = _hmac(seed, b"Content-Encoding: aes128gcm\0\1")[:16]
        nonce = _hmac(seed, b"Content-Encoding: nonce\0\1")[:12]
        padded = AESGCM(key).decrypt(nonce, sealed, None)
        said, mark, _ = padded.rpartition(b"\2")
        assert mark, "the last record ends with its mark"
        return said


def claims_of(authorization: str) -> tuple[str, dict[str, Any]]:
    """The deployment's public key and what it claims. Raises if it did not sign that."""
    fields = dict(part.strip().split("=", 1) for part in authorization.removeprefix("vapid ").split(","))
    head, body, signature = fields["t"].split(".")
    raw = unb64(signature)
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64(fields["k"]))
    key.verify(der, f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256()))
    return fields["k"], json.loads(unb64(body))


class PushService:
    """``statuses`` are answered one after the other, and then 201."""

    def __init__(self, browser: Browser, *statuses: int) -> None:
        self.browser = browser
        self.statuses = list(statuses)
        self.said: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = service.statuses.pop(0) if service.statuses else 201
                if status == 201:
                    service.take(json.loads(service.browser.read(body)), dict(self.headers))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}/send/1?a=b"

    def take(self, said: dict[str, Any], headers: dict[str, str]) -> None:
        self.said.append(said)
        self.headers.append(headers)

    def __enter__(self) -> PushService:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve_forever(self) -> None:
        self._server.serve_forever()


class _Printing(PushService):
    def take(self, said: dict[str, Any], headers: dict[str, str]) -> None:
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    service = _Printing(Browser())
    print(json.dumps({"endpoint": service.endpoint, "keys": service.browser.keys}), flush=True)
    try:
        service.serve_forever()
    except KeyboardInterrupt:
        sys.exit()
