"""What httpx says when there is no connection, or no longer: as a ``ProviderError`` that names the true reason.

httpx's own texts are often empty, because the reason lies at the bottom of the chain of causes: the certificate's
fault, the refusal of the system. What a person has to change (a certificate, the URL) is not tried again.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from chatcluster.errors import ProviderError
from chatcluster.llm.failures import Provider

_EXPIRED, _NOT_YET_VALID, _OTHER_HOST, _OTHER_ADDRESS = 10, 9, 62, 64
_ADVICE = {
    _EXPIRED: "it has to be renewed, unless this machine's clock is wrong",
    _NOT_YET_VALID: "is this machine's clock right?",
    _OTHER_HOST: "llm-base-url has to name the host that the certificate is for",
    _OTHER_ADDRESS: "llm-base-url has to name the host that the certificate is for",
}
_ADVICE_UNKNOWN_AUTHORITY = (
    "if it is meant to be trusted, name a file with its authority's certificate in SSL_CERT_FILE"
)
_DISAGREEMENTS = ("VERSION", "PROTOCOL", "HANDSHAKE_FAILURE", "CERTIFICATE_REQUIRED", "HTTP_REQUEST", "CIPHER")
"""Words of OpenSSL for errors that come again with each attempt."""


def translate(provider: Provider, error: Exception, *, in_answer: bool = False) -> ProviderError:
    """httpx's errors, as what they mean for another attempt."""
    name, reason = provider.name, _reason(error)
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return provider.error(f"the request to {name} cannot be made: {reason}", "config")
    if isinstance(error, httpx.PoolTimeout):
        return provider.error(f"too many requests to {name} at a time on this replica", "overloaded", retryable=True)
    if isinstance(error, httpx.TimeoutException):
        return provider.error(f"{name} did not take the request in time", "timeout", retryable=True)
    if isinstance(error, httpx.ProxyError):
        return provider.error(f"the proxy before {name} refused the connection: {reason}", "generic", retryable=True)
    if in_answer:
        return provider.error(
            f"the connection to {name} was lost in the middle of its answer: {reason}",
            "stream_incomplete",
            retryable=True,
        )
    refusal = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
    if refusal is not None:
        return _tls_error(provider, refusal)
    return provider.error(f"no connection to {name}: {reason}", "generic", retryable=True)


@contextmanager
def as_configured(server: Provider) -> Iterator[None]:
    """What is stored of a server may be no address, and no header."""
    try:
        yield
    except (ValueError, httpx.InvalidURL) as error:
        raise server.error(f"the request to {server.name} cannot be made: {error}", "config") from None


def _tls_error(provider: Provider, error: ssl.SSLError) -> ProviderError:
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = _ADVICE.get(error.verify_code, _ADVICE_UNKNOWN_AUTHORITY)
        return provider.error(
            f"the certificate of {provider.name} is not trusted: {error.verify_message}; {advice}", "config"
        )
    reason = error.reason or str(error)
    comes_again = any(word in reason for word in _DISAGREEMENTS)
    advice = "; does llm-base-url need http:// instead of https://?" if "VERSION_NUMBER" in reason else ""
    words = reason.replace("_", " ").lower()
    return provider.error(
        f"no TLS connection to {provider.name}: {words}{advice}",
        "config" if comes_again else "generic",
        retryable=not comes_again,
    )


def _reason(error: BaseException) -> str:
    """What the system said, at the bottom of it all; else the first words on the way."""
    texts = []
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        texts.append(str(cause))
    return next(filter(None, texts), type(error).__name__)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """``error`` and what led to it; of several that came together the first."""
    seen = 0
    while error is not None and seen < 20:
        seen += 1
        yield error
        several = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        error = several[0] if several else error.__cause__ or error.__context__
