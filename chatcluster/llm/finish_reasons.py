"""Why a generation ended, in the words of many servers: ``read_finish_reason``. Pure.

A reason is one of the words of ``ports.Finished``, or it says that the generation was **broken off**: aborted,
cancelled, out of resources, cut from the network. A broken answer is a failure, never an answer.

Servers write the same word in different ways, so letters and digits alone are compared. The table has the words that
are known. A word that is not in it is judged by its stems, broken off first (``upstream_connect_error``,
``kv_cache_evicted``), for a half answer that passes for a whole one is the worse mistake. What no stem knows either
is ``other``: it ends the answer only together with the end of the stream itself, as ``[DONE]`` or the clean end of
the body, and is kept under this name. It is never called ``stop``.

``null``, an empty text and "unspecified" mean that there is no reason yet; some servers send them with each chunk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

REASON_CHARACTERS_MAX = 80
OTHER = "other"

_REASONS = {
    "stop": "stop stopped stopsequence stopstring stopstr stopstringfound eos eosfound eostoken eot endofturn endturn "
    "endofsequence endofstream endoftext end complete completed finish finished done normal success succeeded 1",
    "length": "length maxtokens maxtokensreached maxlength maxoutput maxoutputtokens maxnewtokens maxcompletiontokens "
    "maxpredictedtokensreached modellength tokenlimit outputlimit limit contextlength contextlengthexceeded "
    "contextlengthreached contextwindow modelcontextwindowexceeded errorlimit 2",
    "content_filter": "contentfilter contentfiltered contentblocked filtered safety recitation prohibitedcontent "
    "blocklist blocked spii sensitive moderation guardrailintervened guardrails refusal refused imagesafety "
    "imageprohibitedcontent imagerecitation errortoxic",
    "tool_calls": "toolcalls toolcall tooluse functioncall functioncalls",
}
_KNOWN = {word: reason for reason, words in _REASONS.items() for word in words.split()}
_NO_REASON_YET = frozenset({"", "null", "none", "nil", "notfinished", "finishreasonunspecified", "unspecified"})
_BROKEN_STEM = re.compile(
    "abort|broken|busy|cancel|capacity|closed|connection|crash|deadline|disconnect|drain|error|evict|exception|expired|"
    "fail|incomplete|interrupt|invalid|killed|loadshed|lost|malformed|missing|network|^oom|outofmemory|overload|panic|"
    "preempt|quota|ratelimit|resource|restart|shedding|shutdown|terminated|throttl|timedout|timelimit|timeout|toomany|"
    "unavailable|unexpected|unknown|unload|userstopped"
)
_CODE_BEFORE_DETAIL = re.compile(r"\s*([A-Za-z_ -]+):")


@dataclass(frozen=True)
class FinishReason:
    """``word`` as the server wrote it; ``reason`` is None where the generation was broken off."""

    word: str
    reason: str | None
    message: str = ""


def read_finish_reason(value: Any) -> FinishReason | None:
    """The reason in ``value``, whatever its type; None if it is none yet."""
    message = ""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        message = next((text for key in ("message", "detail", "error") if isinstance(text := value.get(key), str)), "")
        value = next((value[key] for key in ("type", "reason", "code", "name") if value.get(key)), "other")
    if value is None or value is False:
        return None
    word = str(value)[:REASON_CHARACTERS_MAX].strip() if isinstance(value, str | int | float) else OTHER
    if _normal(word) in _NO_REASON_YET:
        return None
    return FinishReason(word, _meaning(word), message)


def _meaning(word: str) -> str | None:
    known = _KNOWN.get(_normal(word))
    if known is not None:
        return known
    if _BROKEN_STEM.search(_normal(word)):
        return None
    general = _CODE_BEFORE_DETAIL.match(word)  # content_filter: PROHIBITED_CONTENT
    return _KNOWN.get(_normal(general[1]), OTHER) if general else OTHER


def _normal(word: str) -> str:
    return re.sub(r"[\W_]+", "", word).lower()
