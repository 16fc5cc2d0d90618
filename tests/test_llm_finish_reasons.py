"""Why a generation ended, in the words of the servers that people use: a half answer never passes for a whole one."""

from __future__ import annotations

from typing import Any

import pytest

from chatcluster.llm.finish_reasons import read_finish_reason

WHOLE = {
    "stop": (
        "stop STOP Stop eos eos_token EOS end_turn stop_sequence STOP_SEQUENCE complete COMPLETE finished normal "
        "stop_string eosFound stopStringFound"
    ),
    "length": (
        "length LENGTH max_tokens MAX_TOKENS max-tokens model_length max_output_tokens max_new_tokens token_limit "
        "model_context_window_exceeded contextLengthReached maxPredictedTokensReached ERROR_LIMIT"
    ),
    "content_filter": (
        "content_filter CONTENT_FILTER content-filter safety SAFETY RECITATION PROHIBITED_CONTENT BLOCKLIST SPII "
        "sensitive refusal guardrail_intervened content_filtered IMAGE_SAFETY ERROR_TOXIC"
    ),
    "tool_calls": "tool_calls tool_call tool_use TOOL_USE function_call functionCall toolCalls",
}
BROKEN = (
    "abort aborted ABORT error ERROR Error model_error network_error insufficient_system_resource cancelled canceled "
    "CANCELLED timeout time_limit unknown UNKNOWN load_shedding overloaded server_overloaded interrupted incomplete "
    "MALFORMED_FUNCTION_CALL malformed_model_output UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS USER_CANCEL "
    "MISSING_THOUGHT_SIGNATURE failed modelUnloaded userStopped upstream_connect_error kv_cache_evicted preempted "
    "resource-exhausted rate_limit_exceeded server_shutdown connection_lost disconnected engine_dead_error"
)


@pytest.mark.parametrize(("reason", "words"), WHOLE.items())
def test_a_known_reason_is_understood_in_every_spelling(reason: str, words: str) -> None:
    assert {word: read(word) for word in words.split()} == dict.fromkeys(words.split(), reason)


def read(value: Any) -> str | None:
    found = read_finish_reason(value)
    assert found is not None
    return found.reason


@pytest.mark.parametrize("word", BROKEN.split())
def test_what_says_that_it_was_broken_off_is_no_answer(word: str) -> None:
    found = read_finish_reason(word)
    assert found is not None
    assert (found.reason, found.word) == (None, word)


@pytest.mark.parametrize(
    ("value", "word", "message"),
    [
        ({"type": "abort", "message": "overloaded"}, "abort", "overloaded"),
        ({"reason": "error", "detail": "out of memory"}, "error", "out of memory"),
        ({"type": "network_error"}, "network_error", ""),
        ([{"type": "abort"}], "abort", ""),
        (["error"], "error", ""),
        ("function_call_filter: MALFORMED_FUNCTION_CALL", "function_call_filter: MALFORMED_FUNCTION_CALL", ""),
    ],
)
def test_objects_say_it_as_well(value: Any, word: str, message: str) -> None:
    found = read_finish_reason(value)
    assert found is not None
    assert (found.reason, found.word, found.message) == (None, word, message)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"type": "stop"}, "stop"),
        ({"type": "length", "length": 7}, "length"),
        ("content_filter: PROHIBITED_CONTENT", "content_filter"),
        (1, "stop"),
        (2, "length"),
    ],
)
def test_objects_numbers_and_details_of_whole_answers(value: Any, reason: str) -> None:
    assert read(value) == reason


@pytest.mark.parametrize("value", [None, "", " ", "null", "None", "FINISH_REASON_UNSPECIFIED", [], False])
def test_no_reason_yet(value: Any) -> None:
    assert read_finish_reason(value) is None


@pytest.mark.parametrize("value", ["pause_turn", "repetition", "OTHER", "new", "x" * 10_000, {}, 17, {"a": 1}, [[]]])
def test_a_word_that_nobody_knows_is_never_called_stop(value: Any) -> None:
    assert read(value) == "other"
