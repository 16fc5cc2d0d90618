"""Where spans go, from the environment variables that OpenTelemetry's specification names. Pure.

``OTEL_EXPORTER_OTLP_ENDPOINT`` is the one that is needed. Those of the exporter exist a second time for traces alone,
as ``OTEL_EXPORTER_OTLP_TRACES_…``, which win.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

from chatcluster.errors import ConfigError
from chatcluster.setting_checks import check_header_text, check_http_url

PROTOCOL = "http/protobuf"
TIMEOUT_MS_DEFAULT = 10_000
TIMEOUT_MS_MAX = 60_000
RATIO_SAMPLERS = ("traceidratio", "parentbased_traceidratio")
CONSTANT_SAMPLERS = {"always_on": 1.0, "parentbased_always_on": 1.0, "always_off": 0.0, "parentbased_always_off": 0.0}


class Endpoint(msgspec.Struct, frozen=True):
    """``share`` of the turns are told, between 0 and 1."""

    url: str
    headers: dict[str, str] = {}
    timeout_seconds: float = TIMEOUT_MS_DEFAULT / 1000
    gzip: bool = False
    share: float = 1.0
    resource: dict[str, str] = {}
    """What is said of this process, such as the name of its service."""

    def __repr__(self) -> str:
        return f"<Endpoint {self.share:g} of the turns>"  # the URL and the headers may have secrets


def read_endpoint(environ: Mapping[str, str]) -> Endpoint | None:
    """None: nothing is to be told. Raises ``ConfigError``, which names the variable, and no secret."""
    own_url = _value(environ, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    url = own_url or _value(environ, "OTEL_EXPORTER_OTLP_ENDPOINT")
    exporter = _value(environ, "OTEL_TRACES_EXPORTER") or "otlp"
    if not url or exporter == "none" or _value(environ, "OTEL_SDK_DISABLED").lower() == "true":
        return None
    check_http_url("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    if exporter != "otlp":
        raise ConfigError(f"OTEL_TRACES_EXPORTER is otlp or none, not {exporter[:40]!r}")
    protocol = _of_exporter(environ, "PROTOCOL") or PROTOCOL
    if protocol != PROTOCOL:
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {PROTOCOL}, not {protocol[:40]!r}: name the endpoint for HTTP, "
            "which as a rule has port 4318"
        )
    return Endpoint(
        url=url if own_url else f"{url.rstrip('/')}/v1/traces",
        headers=_headers(_of_exporter(environ, "HEADERS")),
        timeout_seconds=_timeout_seconds(_of_exporter(environ, "TIMEOUT")),
        gzip=_is_gzip(_of_exporter(environ, "COMPRESSION")),
        share=_share(environ),
        resource=_resource(environ),
    )


def _value(environ: Mapping[str, str], name: str) -> str:
    """An empty variable is none, says the specification."""
    return environ.get(name, "").strip()


def _of_exporter(environ: Mapping[str, str], name: str) -> str:
    return _value(environ, f"OTEL_EXPORTER_OTLP_TRACES_{name}") or _value(environ, f"OTEL_EXPORTER_OTLP_{name}")


def _pairs(name: str, text: str) -> dict[str, str]:
    """``key=value,key=value``, percent-encoded."""
    pairs = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{name} must be a list like key=value,key=value")
        pairs[key.strip()] = unquote(value.strip())
    return pairs


def _headers(text: str) -> dict[str, str]:
    name = "OTEL_EXPORTER_OTLP_HEADERS"
    headers = _pairs(name, text)
    for key, value in headers.items():
        check_header_text(name, key + value)
        if set(key) & set(' ":;,()<>@[]{}/\\?='):
            raise ConfigError(f"{name} has a name that no header can have")
    return headers


def _timeout_seconds(text: str) -> float:
    timeout_ms = _number("OTEL_EXPORTER_OTLP_TIMEOUT", text or str(TIMEOUT_MS_DEFAULT))
    if not 0 < timeout_ms <= TIMEOUT_MS_MAX:
        raise ConfigError(f"OTEL_EXPORTER_OTLP_TIMEOUT is in milliseconds, and at most {TIMEOUT_MS_MAX}")
    return timeout_ms / 1000


def _is_gzip(text: str) -> bool:
    if text not in ("", "none", "gzip"):
        raise ConfigError(f"OTEL_EXPORTER_OTLP_COMPRESSION is gzip or none, not {text[:40]!r}")
    return text == "gzip"


def _share(environ: Mapping[str, str]) -> float:
    sampler = _value(environ, "OTEL_TRACES_SAMPLER") or "always_on"
    if sampler in CONSTANT_SAMPLERS:
        return CONSTANT_SAMPLERS[sampler]
    if sampler not in RATIO_SAMPLERS:
        names = ", ".join((*CONSTANT_SAMPLERS, *RATIO_SAMPLERS))
        raise ConfigError(f"OTEL_TRACES_SAMPLER is one of {names}, not {sampler[:40]!r}")
    share = _number("OTEL_TRACES_SAMPLER_ARG", _value(environ, "OTEL_TRACES_SAMPLER_ARG") or "1")
    if not 0 <= share <= 1:
        raise ConfigError("OTEL_TRACES_SAMPLER_ARG must be from 0 to 1")
    return share


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name} must be a number, not {text[:40]!r}") from None


def _resource(environ: Mapping[str, str]) -> dict[str, str]:
    resource = _pairs("OTEL_RESOURCE_ATTRIBUTES", _value(environ, "OTEL_RESOURCE_ATTRIBUTES"))
    if name := _value(environ, "OTEL_SERVICE_NAME"):
        resource["service.name"] = name
    return resource
