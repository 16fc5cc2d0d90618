"""Messages that only the subscribed browser can read (RFC 8291), from a deployment that push services know (RFC 8292).

Pure but for random numbers. A message is one record of the content coding ``aes128gcm`` (RFC 8188). The key of the
deployment is a P-256 key: its public half goes into each subscription, so nobody else can send to it.
"""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from chatcluster.errors import ConfigError, InvalidRequest

CURVE = ec.SECP256R1()
POINT_BYTES = 65
SECRET_BYTES = 16
SALT_BYTES = 16
RECORD_BYTES = 4096
PAYLOAD_BYTES_MAX = 3993
"""What fits into one record beside its frame; push services take no more."""
TOKEN_SECONDS = 12 * 3600
LAST_RECORD = b"\x02"


class VapidKey:
    """The deployment's key."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private
        self.public = encoded(_point(private.public_key()))
        """The key as a page gives it to ``pushManager.subscribe``."""

    def __repr__(self) -> str:
        return f"<VapidKey {self.public[:8]}>"

    @classmethod
    def parse(cls, text: str) -> VapidKey:
        """The key of ``CHATCLUSTER_PUSH_KEY``. Raises ``ConfigError``, which does not repeat it."""
        try:
            value = int.from_bytes(decoded(text.strip()))
            return cls(ec.derive_private_key(value, CURVE))
        except ValueError:
            raise ConfigError("push-key must be a key that `chatcluster secrets new-push-key` made") from None

    def authorization(self, origin: str, contact: str, *, now: float) -> str:
        """The header for a push service at ``origin``; ``contact`` is where its operators reach ours."""
        claims = {"aud": origin, "exp": int(now) + TOKEN_SECONDS, "sub": contact}
        parts = [encoded(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ES256"}, claims)]
        signature = self._private.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(signature)
        parts.append(encoded(r.to_bytes(32) + s.to_bytes(32)))
        return f"vapid t={'.'.join(parts)}, k={self.public}"


def new_push_key() -> str:
    """A key as it stands in ``CHATCLUSTER_PUSH_KEY``."""
    return encoded(ec.generate_private_key(CURVE).private_numbers().private_value.to_bytes(32))


def check_browser_keys(p256dh: bytes, auth: bytes) -> None:
    """Raises ``InvalidRequest`` for what no message could be encrypted for."""
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(CURVE, p256dh)
        usable = len(p256dh) == POINT_BYTES and len(auth) == SECRET_BYTES
    except ValueError:
        usable = False
    if not usable:
        raise InvalidRequest("keys.p256dh and keys.auth must be those that the browser's PushSubscription has")


def encrypted(
    payload: bytes,
    p256dh: bytes,
    auth: bytes,
    *,
    private: ec.EllipticCurvePrivateKey | None = None,
    salt: bytes | None = None,
) -> bytes:
    """The body of a request to the push service. The key and salt of a message are its own; tests give known ones."""
    assert len(payload) <= PAYLOAD_BYTES_MAX, "what is longer is cut before"
    private = private or ec.generate_private_key(CURVE)
    salt = salt or os.urandom(SALT_BYTES)
    sender = _point(private.public_key())
    shared = private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(CURVE, p256dh))
    secret = _derived(shared, auth, b"WebPush: info\x00" + p256dh + sender, 32)
    key = _derived(secret, salt, b"Content-Encoding: aes128gcm\x00", 16)
    nonce = _derived(secret, salt, b"Content-Encoding: nonce\x00", 12)
    header = salt + RECORD_BYTES.to_bytes(4) + bytes([len(sender)]) + sender
    return header + AESGCM(key).encrypt(nonce, payload + LAST_RECORD, None)


def _derived(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt, info).derive(secret)


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def encoded(data: bytes) -> str:
    """Base64 for URLs, without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    """Raises ``ValueError``."""
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
