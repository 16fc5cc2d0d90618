"""What each failure of a provider means: retried or not, when, and in which words.

A wrong verdict is either a chat that gives up on a passing fault, or one that asks 25 times in vain."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from time import process_time
from typing import Any

import pytest

from chatcluster.llm.error_bodies import ErrorObject, read_error_body
from chatcluster.llm.failures import Provider, Verdict, from_response, from_stream, judge
from chatcluster.llm.retry_after import RETRY_AFTER_SECONDS_MAX, read_retry_after

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
KEY = "key-0123456789"
PROVIDER = Provider("test.example", (KEY,))


def error_body(**error: object) -> bytes:
    return json.dumps({"error": {"message": "something happened", **error}}).encode()


def failure(status: int, body: bytes = b"", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return from_response(PROVIDER, status, named, body, now=NOW)


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (302, "config", False),
        (400, "config", False),
        (401, "auth", False),
        (402, "usage_limit", False),
        (403, "auth", False),
        (404, "config", False),
        (405, "config", False),
        (408, "timeout", True),
        (409, "generic", True),
        (413, "context_overflow", False),
        (418, "config", False),
        (422, "config", False),
        (425, "generic", True),
        (429, "rate_limit", True),
        (500, "generic", True),
        (502, "generic", True),
        (503, "overloaded", True),
        (504, "timeout", True),
        (520, "generic", True),
        (529, "overloaded", True),
    ],
)
def test_the_status_decides_where_the_body_says_nothing(status: int, kind: str, retryable: bool) -> None:
    error = failure(status)
    assert (error.kind, error.retryable, error.status_code) == (kind, retryable, status)
    assert error.message.startswith(f"test.example answered {status} ")


@pytest.mark.parametrize(
    ("status", "body", "kind", "retryable"),
    [
        (429, error_body(type="insufficient_quota", code="insufficient_quota"), "usage_limit", False),
        (429, error_body(type="insufficient_quota", code=None), "usage_limit", False),
        (429, error_body(code="credit_balance_exhausted"), "usage_limit", False),
        (429, error_body(code="organization_spend_limit_exceeded"), "usage_limit", False),
        (429, error_body(code="project_spend_limit_exceeded"), "usage_limit", False),
        (429, error_body(code="organization_usage_limit_exceeded"), "usage_limit", False),
        (429, error_body(details={"error_code": "enforced_spend_limit_reached"}), "usage_limit", False),
        (400, error_body(message="Your credit balance is too low to use the API"), "usage_limit", False),
        (429, error_body(code="rate_limit_exceeded", type="tokens"), "rate_limit", True),
        (429, error_body(details={"error_code": "linked_organization_limit"}), "usage_limit", False),
        (429, error_body(details={"error_code": "team_spend_limit_reached"}), "usage_limit", False),
        (
            429,
            error_body(details=[{"violations": [{"quotaId": "RequestsPerDayPerProject"}]}, {"retryDelay": "9s"}]),
            "usage_limit",
            False,
        ),
        (429, error_body(details=[{"violations": [{"quotaId": "RequestsPerMinute"}, 7]}]), "rate_limit", True),
        (
            400,
            error_body(message="messages.1.content.0: Invalid `signature` in `thinking` block"),
            "opaque_refused",
            False,
        ),
        (
            400,
            error_body(message="Item 'rs_1' of type 'reasoning' was provided without its required following item."),
            "opaque_refused",
            False,
        ),
        (400, error_body(code="invalid_encrypted_content"), "opaque_refused", False),
        (400, error_body(message="Corrupted thought signature."), "opaque_refused", False),
        (
            400,
            error_body(
                message="Function call `default_api:look` in the 2. content block is missing a `thought_signature`"
            ),
            "opaque_refused",
            False,
        ),
        (
            400,
            error_body(message="messages.3.content.1: Invalid `encrypted_content` in `search_result` block"),
            "opaque_refused",
            False,
        ),
        (
            400,
            error_body(message="`web_search` tool use with id `srvtoolu_1` was found without `web_search_tool_result`"),
            "opaque_refused",
            False,
        ),
        (429, error_body(code="slow_down"), "overloaded", True),
        (503, error_body(code="slow_down"), "overloaded", True),
        (503, error_body(code=503, message="Loading model", type="unavailable_error"), "overloaded", True),
        (500, error_body(type="overloaded_error"), "overloaded", True),
        (400, error_body(code="context_length_exceeded"), "context_overflow", False),
        (400, error_body(message="This model's maximum context length is 8192 tokens"), "context_overflow", False),
        (400, error_body(type="exceed_context_size_error"), "context_overflow", False),
        (400, error_body(code="content_filter"), "content_filter", False),
        (400, error_body(message="Incorrect API key provided"), "auth", False),
        (401, error_body(code="invalid_api_key"), "auth", False),
        (400, error_body(code="Arrearage", message="Access denied"), "usage_limit", False),
        (429, error_body(code="1113", message="Please recharge"), "usage_limit", False),
        (429, error_body(message="Insufficient balance or no resource package"), "usage_limit", False),
        (429, error_body(type="exceeded_current_quota_error"), "usage_limit", False),
        (403, error_body(message="This key requires more credits"), "usage_limit", False),
        (429, error_body(message="Resource has been exhausted", status="RESOURCE_EXHAUSTED"), "rate_limit", True),
        (429, error_body(type="engine_overloaded_error"), "overloaded", True),
        (498, error_body(code="flex_tier_capacity_exceeded"), "overloaded", True),
        (500, error_body(message="the request exceeds the available context size"), "context_overflow", False),
        (
            400,
            error_body(type="exceed_context_size_error", message="request (4422 tokens) exceeds"),
            "context_overflow",
            False,
        ),
        (500, error_body(type="server_error", message="image input is not supported - hint: …"), "config", False),
        (400, error_body(message="The input token count (9) exceeds the maximum"), "context_overflow", False),
        (400, error_body(type="ContextWindowExceededError"), "context_overflow", False),
        (403, error_body(message="Content violates usage guidelines"), "content_filter", False),
        (403, error_body(message="Your input was flagged", metadata={"reasons": ["x"]}), "content_filter", False),
        (400, error_body(code="data_inspection_failed"), "content_filter", False),
        (400, error_body(code="DataInspectionFailed"), "content_filter", False),
        (400, b'{"__type":"com.example#ThrottlingException","message":"Rate exceeded"}', "rate_limit", True),
        (400, b'{"__type":"com.example#ValidationException","message":"no"}', "config", False),
        (404, b'{"error":"model \'x\' not found, try pulling it first"}', "config", False),
        (404, b'{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}', "config", False),
        (424, error_body(type="generation"), "generic", True),
        (501, b"", "config", False),
        (400, error_body(message="Unrecognized request argument supplied: timeout"), "config", False),
        (404, error_body(code="model_not_found"), "config", False),
        (500, error_body(message="unauthorized, forbidden and all that"), "generic", True),
        (500, b"<html><head><title>500 Internal Server Error</title></head></html>", "generic", True),
    ],
)
def test_the_body_is_more_precise_than_the_status(status: int, body: bytes, kind: str, retryable: bool) -> None:
    error = failure(status, body)
    assert (error.kind, error.retryable) == (kind, retryable)


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        ({"code": 502, "message": "upstream"}, "generic", True),
        ({"code": "502"}, "generic", True),
        ({"code": 429}, "rate_limit", True),
        ({"code": 401}, "auth", False),
        ({"type": "overloaded_error"}, "overloaded", True),
        ({"code": "server_error"}, "generic", True),
        ({"type": "invalid_request_error"}, "config", False),
        ({"message": "maximum context length exceeded"}, "context_overflow", False),
        ({"message": "Connection reset by peer"}, "generic", True),
        ("out of memory", "generic", True),
        ({"error": {"type": "rate_limit_error"}}, "rate_limit", True),
        ([{"error": {"code": 503}}], "overloaded", True),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, "rate_limit", True),
        ({"code": 429.0}, "rate_limit", True),
        ({"code": 10**400}, "generic", True),
        ({"code": True, "type": ["x"], "message": {"a": 1}}, "generic", True),
        ({"message": "Request timed out."}, "timeout", True),
        ({"message": "The engine is overloaded, try later"}, "overloaded", True),
        ({"message": "Too Many Requests"}, "rate_limit", True),
        ({}, "generic", True),
        (True, "generic", True),
    ],
)
def test_an_error_object_in_mid_stream(error: object, kind: str, retryable: bool) -> None:
    """There the HTTP status is 200: only the object can tell, and what it leaves open is retried."""
    found = from_stream(PROVIDER, error)
    assert (found.kind, found.retryable) == (kind, retryable)


def test_an_unknown_failure_under_an_unknown_status_is_retried() -> None:
    assert judge(None, ErrorObject(code="brand_new")).retryable
    assert judge(204, ErrorObject()).retryable


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'{"error": {"message": "m", "code": "c"}}', "m", "c"),
        (b'{"error": {"message": "m", "code": 400}}', "m", "400"),
        (b'{"error": "model not found, try pulling it first"}', "model not found, try pulling it first", ""),
        (b'[{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}]', "m", "429"),
        (b'{"object": "error", "message": "m", "type": "BadRequestError", "code": 400}', "m", "400"),
        (b'{"detail": "Not Found"}', "Not Found", ""),
        (b'{"detail": [{"loc": ["body"]}]}', '[{"loc":["body"]}]', ""),
        (b'{"message": "m", "error": null}', "m", ""),
        (b'{"error": {"code": "c"}, "message": "m"}', "m", "c"),
        (b'{"errors": [{"message": "m", "code": 7}]}', "m", "7"),
        (b'{"errors": ["m"]}', "m", ""),
        (b'{"error_code": 17, "error_msg": "m"}', "m", "17"),
        (b'{"code": 1302, "msg": "m"}', "m", "1302"),
        (b'{"fault": {"faultstring": "m", "detail": {"errorcode": "c"}}}', '{"errorcode":"c"}', ""),
        (b'{"Message": "m"}', "m", ""),
        (b'{"html-message": "Message: fetch failed"}', "Message: fetch failed", ""),
        (b'{"title": "m", "status": 400}', "m", ""),
        (b'{"error": {"message": "m", "metadata": {"raw": "r"}}}', "m: r", ""),
        (b'{"error": {"message": "a\\ud800b"}}', "a\ufffdb", ""),
        (b'{"error": {"message": NaN, "code": 1}}', "null", "1"),
        (b"<!DOCTYPE html><h1>Bad Gateway</h1>", "Bad Gateway", ""),
        (b"<html><title> 502 Bad\nGateway </title><body>long</body></html>", "502 Bad\nGateway", ""),
        (b"<html>no title</html>", "", ""),
        (b"upstream connect error", "upstream connect error", ""),
        (b'"just text"', "just text", ""),
        (b"\xff\xfe", "\ufffd\ufffd", ""),
        (b"17", "", ""),
        (b"[]", "", ""),
        (b"", "", ""),
    ],
)
def test_error_bodies_of_all_shapes(body: bytes, message: str, code: str) -> None:
    error = read_error_body(body)
    assert (error.message, error.code) == (message, code)


@pytest.mark.parametrize("depth", [100, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b'{"error":', b"}"), (b"[", b"]")])
def test_an_error_body_without_a_bottom_is_an_error_without_words(depth: int, opening: bytes, closing: bytes) -> None:
    error = failure(500, opening * depth + b"{}" + closing * depth)
    assert error.retryable


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": ""}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "9" * 5000}, RETRY_AFTER_SECONDS_MAX),
        ({"retry-after": "1m30s"}, 90.0),
        ({"retry-after": str(int(NOW.timestamp()) + 40)}, 40.0),
        ({"retry-after": "2026-01-01T12:00:05Z"}, 5.0),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, RETRY_AFTER_SECONDS_MAX),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 -2359"}, 0.0),
        # a server's dates are by its own clock, here an hour behind
        ({"retry-after": "Thu, 01 Jan 2026 11:00:30 GMT", "date": "Thu, 01 Jan 2026 11:00:00 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 10:59:57 GMT", "date": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT", "date": "soon"}, 30.0),
        ({"retry-after-ms": "-1"}, 0.0),
        ({"retry-after-ms": "1e300"}, RETRY_AFTER_SECONDS_MAX),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
        ({"x-ratelimit-reset": str(int(NOW.timestamp() * 1000) + 7000), "x-ratelimit-remaining": "0"}, 7.0),
        ({"x-ratelimit-reset-tokens": "2026-01-01T12:00:09+00:00", "x-ratelimit-remaining-tokens": "0"}, 9.0),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-01-01T12:00:09Z",
                "anthropic-ratelimit-requests-remaining": "5",
                "anthropic-ratelimit-requests-reset": "2026-01-01T12:01:00Z",
            },
            9.0,
        ),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Mon, 99999999999 Jan 2026 00:00:00 GMT"}, None),
        ({"retry-after": "1e9"}, RETRY_AFTER_SECONDS_MAX),
        ({"retry-after": "Thu, 01 Jan 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, 360.0),
        ({"x-ratelimit-reset-tokens": "1m2.5s", "x-ratelimit-remaining-tokens": "0"}, 62.5),
        ({"x-ratelimit-reset-tokens": "120ms", "x-ratelimit-remaining-tokens": "0"}, 0.12),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "17"}, None),
        ({"x-ratelimit-reset-tokens": "later", "x-ratelimit-remaining-tokens": "0"}, None),
        (
            {
                "x-ratelimit-reset-requests": "2s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "3",
                "x-ratelimit-remaining-tokens": "0",
            },
            3.0,
        ),
    ],
)
def test_when_the_provider_wants_to_be_asked_again(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers, NOW) == seconds


def test_a_wait_can_also_stand_in_the_body() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}]
    error = failure(429, json.dumps([{"error": {"code": 429, "message": "m", "details": details}}]).encode())
    assert (error.kind, error.retry_after_seconds) == ("rate_limit", 34.0)


def test_a_failure_that_is_not_retried_names_no_wait() -> None:
    assert failure(401, retry_after="5").retry_after_seconds is None
    assert failure(429, retry_after="5").retry_after_seconds == 5.0


@pytest.mark.parametrize(
    "leak",
    [
        f"wrong key {KEY}!",
        "wrong key sk-proj-abcdefghijklmnop",
        "header Authorization: Bearer abc.def.ghi",
        "cannot reach https://user:hunter2@host/v1",
    ],
)
def test_no_secret_gets_into_a_message(leak: str) -> None:
    message = failure(401, error_body(message=leak)).message
    assert "***" in message
    for secret in (KEY, "abcdefghijklmnop", "abc.def", "hunter2"):
        assert secret not in message
    assert KEY not in repr(PROVIDER)


def test_a_dummy_key_does_not_black_out_ordinary_words() -> None:
    error = Provider("test.example", ("a",)).error("a bad day", "generic")
    assert error.message == "a bad day"


def test_a_message_is_one_line_of_at_most_500_characters() -> None:
    message = failure(400, error_body(message="x\n" * 5000 + "\0")).message
    assert len(message) == 500
    assert "\n" not in message
    assert message.endswith("…")


def test_control_characters_and_what_changes_the_direction_of_text_are_not_shown() -> None:
    message = failure(400, error_body(message="a\x1b[31mred\x07 \u202egnp\ud800.\u200b\x00\x9bz")).message
    assert message.endswith(": a [31mred gnp\ufffd. z")


def test_a_secret_is_found_wherever_it_stands_and_whatever_the_length() -> None:
    for distance in (0, 450, 490, 500, 16_380, 16_390, 100_000):
        message = PROVIDER.redact("x" + " " * distance + KEY + " and more")
        assert KEY[:8] not in message


def test_a_redirect_says_where_it_leads() -> None:
    message = failure(307, location="https://elsewhere.example/v1/chat/completions").message
    assert "llm-base-url" in message
    assert "https://elsewhere.example/v1" in message


def test_who_is_sent_to_the_responses_api_is_told_how_to_get_there() -> None:
    """OpenAI's models from GPT-5.6 on take tools nowhere else, unless they are not to reason."""
    said = (
        "Function tools with reasoning_effort are not supported for gpt-6-sol in /v1/chat/completions. To use function "
        "tools, use /v1/responses or set reasoning_effort to 'none'."
    )
    body = json.dumps({"error": {"message": said, "type": "invalid_request_error", "param": "reasoning_effort"}})
    told = from_response(PROVIDER, 400, {}, body.encode(), now=NOW)
    assert (told.kind, told.retryable) == ("config", False)
    assert "--kind openai-responses" in told.message


def test_a_missing_page_points_to_the_base_url() -> None:
    assert "llm-base-url" in failure(404, b"404 page not found").message
    assert "llm-base-url" not in failure(404, error_body(code="model_not_found")).message


OVERFLOWS: list[tuple[int | None, str]] = [
    (400, "prompt is too long: 210000 tokens > 200000 maximum"),
    (400, "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000"),
    (413, ""),
    (400, "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens"),
    (400, "Your input exceeds the context window of this model. Please adjust your input and try again."),
    (400, "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575)"),
    (400, "Input is too long for requested model"),
    (400, "the request exceeds the available context size, try increasing it"),
    (400, "This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
    (400, "Please reduce the length of the messages or completion."),
    (400, "prompt token count of 200000 exceeds the limit of 128000"),
    (400, "Your request exceeded model token limit: 262144 (requested: 300000)"),
    (400, "invalid params, context window exceeds limit"),
    (500, "The number of tokens to keep from the initial prompt is greater than the context length"),
    (400, "Prompt contains 50000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"),
    (400, "prompt too long; exceeded max context length by 37 tokens"),
    (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 3000 `inputs` tokens"),
    (400, "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000"),
    (400, "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens."),
    (400, "Range of input length should be [1, 30720]"),
    (400, "The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
    (400, "Prompt length 5000 is greater than max_seq_len 4096"),
    (400, "Context size has been exceeded."),
    (429, "Request too large for gpt-x in organization org-1 on tokens per min (TPM): Limit 10000, Requested 32000."),
    (
        400,
        "maximum context length is 8192 tokens. However, you requested 9000 tokens (7000 in the messages, "
        "2000 in the completion).",
    ),
    (
        400,
        "'max_tokens' or 'max_completion_tokens' is too large: 2000. This model's maximum context length is 8192 "
        "tokens and your request has 7000 input tokens (2000 > 8192 - 7000).",
    ),
]

# What a summary makes shorter as well, said by servers that others stand in front of, and of all that is counted there.
OVERFLOWS += [
    (424, "The model returned the following errors: Input is too long for requested model."),
    (400, "the number of input tokens 9000 cannot exceed the total tokens limit 8192 for this model"),
    (422, "Prompt has too many tokens: 300000 > 262144"),
    (400, "litellm.ContextWindowExceededError: litellm.BadRequestError: OpenAIException - "),
    (
        400,
        "Invalid 'messages': array too long. Expected an array with maximum length 2048, but got one with length 2100.",
    ),
    (400, "Request payload size exceeds the limit: 20971520 bytes."),
    (400, "messages: Too much media: 0 document pages + 101 images > 100"),
    (400, "Too many images in request. Max is 10."),
    (400, "At most 1 image(s) may be provided in one prompt."),
]

# In words of no server that is known here: that something was sent, and that it is too much.
OVERFLOWS += [
    (400, "too many tokens: size limit exceeded by 11326 tokens. Try using shorter or fewer inputs."),
    (
        400,
        "Malformed input request: expected maxLength: 20000, actual: 30000, please reformat your input and try again.",
    ),
    (
        400,
        "Requested generation length 1 is not possible! The provided prompt is 10000 tokens long, so generating 1 "
        "tokens requires a sequence length of 10001, but the maximum supported sequence length is just 8192!",
    ),
    (400, "Prompt is too large: 9000 tokens, limit 8192"),
    (400, "The conversation is too long, please start a new one"),
    (400, "Request body too large for gpt-x model. Max size: 8000 tokens."),
    (400, "Total tokens of image and text exceed max message tokens."),
    (400, "the max input characters is 24000"),
    (400, "Prompt 超长"),
    (400, "输入长度超过模型最大限制"),
    (422, "Sequence length 9000 exceeds n_ctx 8192"),
    (400, "Your prompt contains more tokens than the model supports (9000/8192)"),
    (400, "This model only supports 8192 tokens, but 9000 were given"),
    (400, "KV cache is full"),
    (400, "messages.0.content: String should have at most 100000 characters"),
    (400, "prompt_tokens (9000) > max_model_len (8192)"),
    (None, "Token count exceeds model limit"),
    (429, "Requested tokens exceed the model's maximum context length of 8192"),
    (503, "upstream: prompt is too long: 210000 tokens > 200000 maximum"),
]

ANSWERS_TOO_LONG = [
    "max_tokens is too large: 32000. This model supports at most 16384 completion tokens.",
    "max_tokens: 32000 > 8192, which is the maximum allowed number of output tokens for claude-x",
    "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]",
    "`max_completion_tokens` must be less than or equal to `8192`, the maximum value for `max_completion_tokens`",
    "it has a maxOutputTokens value of 100000 but the supported range is from 1 (inclusive) to 65537 (exclusive)",
    "This model's maximum context length is 32768 tokens. However, you requested 32100 tokens (100 in the messages, "
    "32000 in the completion). Please reduce the length of the messages or completion.",
    "This endpoint's maximum context length is 32768 tokens. However, you requested about 32100 tokens (100 of text "
    "input, 32000 in the output). Please reduce the length of either one.",
    "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of 32100 "
    "tokens: 100 tokens from the input messages and 32000 tokens for the completion.",
    "'max_tokens' or 'max_completion_tokens' is too large: 32000. This model's maximum context length is 8192 tokens "
    "and your request has 100 input tokens (32000 > 8192 - 100).",
    "You passed 100 input tokens and requested 32000 output tokens. However, the model's context length is only 8192 "
    "tokens, resulting in a maximum input length of 0.",
]


@pytest.mark.parametrize("message", ANSWERS_TOO_LONG)
def test_a_limit_of_answers_that_is_refused_is_no_conversation_that_is_too_long(message: str) -> None:
    """No summary mends it: who runs the model has to, and is told how."""
    error = failure(400, error_body(message=message, type="invalid_request_error"))
    assert (error.kind, error.retryable) == ("config", False)
    in_stream = from_stream(PROVIDER, {"message": message, "code": 400})
    assert in_stream.kind == "config"
    for told in (error, in_stream):
        assert told.message.endswith("(chatcluster model set NAME --output-tokens-max)")


@pytest.mark.parametrize(
    "message",
    [
        "maximum context length is " + "1" * 16_000,
        "maximum context length is " + "1 " * 8_000,
        ("maximum context length is 1 " + "1 " * 85) * 80,
        "requested " + "1" * 16_000,
        "requested 1 " * 1_400,
        "https://" + "://a" * 4_000,
        "Bearer " * 2_400,
        "<html>" + "<h1>" * 4_000,
        "<html>" + "<title><h1 >" * 1_400,
    ],
    ids=lambda message: message[:30],
)
def test_p10_no_words_take_long_to_read_however_often_they_are_repeated(message: str) -> None:
    """Servers repeat what they were asked, so anybody may have written it. One took each replica's loop for minutes."""
    began = process_time()
    assert not failure(400, error_body(message=message)).retryable
    failure(502, message.encode())
    assert process_time() - began < 5.0


@pytest.mark.parametrize(("status", "message"), OVERFLOWS)
def test_too_long_is_known_in_each_of_the_ways_in_which_servers_say_it(status: int | None, message: str) -> None:
    """The one failure that a shorter history mends."""
    verdict = judge(status, ErrorObject(message=message, type="invalid_request_error"))
    assert verdict == Verdict("context_overflow", retryable=False)


@pytest.mark.parametrize(
    "message", ["rate limit exceeded: too many tokens per minute", "maximum tokens must be positive"]
)
def test_too_many_of_something_else_is_not_too_long(message: str) -> None:
    assert judge(429, ErrorObject(message=message)).kind == "rate_limit"
    assert judge(400, ErrorObject(message=message)).kind != "context_overflow"


@pytest.mark.parametrize(
    "message",
    [
        "Tool name is too long: maximum of 64",
        "messages.1.tool_calls.0.function.arguments: too long",
        "Invalid 'user': string too long. Expected a string with maximum length 64",
        "Your access token has exceeded its limit of uses",
        "max_completion_tokens exceeds the maximum of 8192",
        "Requested output length exceeds the limit of 4096 tokens",
        "messages.0.content.1.image.source.base64.data: image exceeds 5 MB maximum: 6291456 bytes > 5242880 bytes",
        "The request exceeded the maximum number of concurrent requests",
        "Request limit exceeded: upgrade your plan",
        "Too many redirects for the request",
        "n: Input should be greater than or equal to 1",
        "messages.5.content.0.tool_use.id: String should have at most 64 characters",
        "Invalid 'input[3].id': string too long. Expected a string with maximum length 64, but got one with length 66.",
        "messages.0.content.0.tool_use.input: nesting depth exceeds 100",
        "messages.0.content.1.image.source.base64.data: image exceeds 5MB maximum: 6291456 bytes > 5242880 bytes",
        "The image in message 2 is too large",
        "At most 1 system message is allowed in messages",
        "The prompt exceeds the allowed severity threshold for violence",
        "输入的图片超过大小限制",
        "messages: roles must alternate",
        "x" * 500 + " the prompt is much too long",
    ],
)
def test_what_no_shorter_conversation_mends_is_the_configuration(message: str) -> None:
    """Where the words are long, a server repeats what it was asked."""
    assert judge(400, ErrorObject(message=message)).kind == "config"


@pytest.mark.parametrize("message", ["The request queue is full", "Request took too long", "消息请求超时"])
def test_what_passes_by_itself_in_mid_answer_is_tried_again(message: str) -> None:
    assert judge(None, ErrorObject(message=message)) == Verdict("generic", retryable=True)


def test_a_limit_of_a_rate_is_no_prompt_that_is_too_long_whatever_it_is_a_limit_of() -> None:
    message = "Rate limit reached for requests with a long context window: 1000000 input tokens per minute"
    assert judge(429, ErrorObject(message=message)) == Verdict("rate_limit", retryable=True)
