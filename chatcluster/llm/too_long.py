"""In which words servers say that a conversation is too long for them, and that an answer may be too long. Pure.

``TEXTS`` are sentences of known servers, which say so wherever they stand. For all others there is ``says_so``: that
something was sent, and that it is too much, in any order; and nothing of what else may be too much.
"""

from __future__ import annotations

import re

READ_CHARACTERS_MAX = 16 << 10
SENTENCE_CHARACTERS_MAX = 500
"""What is looked at by ``says_so``: further on servers repeat what they were asked."""

CODES = (
    "context_length_exceeded exceed_context_size_error model_context_window_exceeded request_too_large "
    "context_window_exceeded ContextWindowExceededError string_above_max_length prompt_too_long "
    "model_max_prompt_tokens_exceeded tokens_limit_reached 1261"
)
TEXTS = (
    "maximum context length",
    "context length",
    "context window",
    "context size",
    "context overflow",
    "prompt is too long",
    "input is too long",
    "prompt too long",
    "input token count",
    "too many input tokens",
    "reduce the length of the messages",
    "context limit",
    "maximum prompt length",
    "exceeded model token limit",
    "prompt token count",
    "token limit exceeded",
    "tokens in the prompt cannot exceed",
    "input tokens exceed",
    "input length",
    "maximum input length",
    "maximum model length",
    "max_seq_len",
    "max_input_len",
    "max_num_tokens",
    "prompt exceeds max length",
    "`inputs` tokens + `max_new_tokens`",
    "`inputs` must have less than",
    "total tokens limit",
    "prompt has too many tokens",
    "contextwindowexceedederror",
    # What a summary makes shorter as well: too many messages, too many bytes, too many images.
    "'messages': array too long",
    "'input': array too long",
    "payload size exceeds",
    "too many images",
    "too much media",
    "image(s) may be provided",
)
NO_RATES = ("maximum context length", "context window", "prompt is too long")
"""Sentences that are looked for under statuses of rate limits as well."""

_SENT = re.compile(
    r"\b(?:prompts?|inputs?|conversation|dialogue|history|messages?|sequence|query|context|kv cache|tokens?"
    r"|text|prompt_tokens|input_tokens|input_length)\b|n_ctx"
    r"|\brequest(?: body| size| length| is| was)* (?:too (?:large|long|big)|exceeds? the m)|输入|上下文|对话|消息|超长"
)
_TOO_MUCH = re.compile(
    r"too (?:long|large|big|many)|exceed|(?:longer|larger|greater|bigger) than|more (?:than (?!0\b)|tokens)|\bfull\b"
    r"|limit (?:reached|is|of)|limit:? [0-9]|at most [0-9]{2}|only supports? [0-9]|maxlength: ?[0-9]|> ?(?:[0-9]|max_)"
    r"|\b(?:max|maximum|longest)\b[\w ]{1,40} (?:is|of) (?:just |only )?[0-9]|[0-9]{3} ?/ ?[0-9]{3}|超(?!时)"
)
_OF_SOMETHING_ELSE = re.compile(
    r"\b(?:outputs?|completions?|answers?|replies|responses?|tools?|functions?|names?|description|metadata|schema|stop"
    r"|access|api|auth|bearer|budget|quota|rate|balance|temperature|header|url|must be (?:positive|at least)"
    r"|thinking|reasoning|pixels|dimensions|files?|time|timeout|timed|took|seconds|credits?|funds|expensive|allowance"
    r"|usage limit|plan|upgrade|daily|today|period|slow down|wait|later|retries|redirects|requests|connections|queued?"
    r"|busy|at capacity|request capacity|loading|licen[cs]e|safety|severity|threshold|moderation|more than one|uri"
    r"|depth|nest(?:ed|ing)|recursion|cache_control|logprobs|query parameters|logits|vram|cuda|(?:\w+_)?id"
    r"|system message)\b"
    r"|max_(?:completion_|output_|new_)?tokens|generated|'user'|budget_tokens|concurren|[0-9] ?[kmg]i?b\b"
    r"|input should be|\bper[ -](?:second|min|hour|day|week|month|user|account|key|organi)"
    r"|敏感|安全|图片|频率|并发|次数|格式|配额|余额"
)
_MEDIA = re.compile(r"\b(?:image|image_url|audio|video|pdf|documents?|pages?|attachments?)\b")
"""Too large itself, unless it is about tokens: no summary makes the newest of them smaller."""
_OF_A_RATE = re.compile(r"rate.?limit|per.?(?:second|min|hour|day)|\b[rt]p[md]\b|quota|concurren|overloaded")


def says_so(text: str) -> bool:
    """Whether ``text``, in small letters, says that what was sent is too long."""
    sentence = text[:SENTENCE_CHARACTERS_MAX]
    if _OF_SOMETHING_ELSE.search(sentence) or (_MEDIA.search(sentence) and "token" not in sentence):
        return False
    return bool(_SENT.search(sentence) and _TOO_MUCH.search(sentence))


def says_so_in_a_wrong_status(text: str) -> bool:
    """Whether it says so under a status that is for rate limits and the like, and is about none."""
    sentence = text[:SENTENCE_CHARACTERS_MAX]
    return any(words in sentence for words in NO_RATES) and not _OF_A_RATE.search(sentence)


_ANSWER_LIMIT_TEXTS = (
    "max_tokens is too large",
    "max_completion_tokens is too large",
    "max_output_tokens is too large",
    "maximum allowed number of output tokens",
    "range of max_tokens",
    "tokens` must be less than or equal to",
    "maxoutputtokens value of",
    "max_output_tokens': integer above maximum",
)
_ASKED_AND_CONTEXT = re.compile(r"(?:too large:|requested) (\d{1,9})\b.{0,80}?context length is (?:only )?(\d{1,9})")
_CONTEXT_AND_ASKED = re.compile(
    r"maximum context length (?:is|of) (\d{1,9})\b.{0,200}?\b(\d{1,9}) (?:in the (?:completion|output)|tokens for the)"
)
"""Whole numbers, not too long: to try each end of one with each beginning of the next took minutes (P10)."""
PROMPT_SHARE_MIN = 4
"""Where an answer's limit leaves less than this part of the context to the prompt, it is the limit that is wrong."""


def answer_limit_is_refused(message: str) -> bool:
    """Whether it is refused how long the answer may get: no shorter conversation mends that."""
    text = message[:READ_CHARACTERS_MAX].lower()
    if any(words in text for words in _ANSWER_LIMIT_TEXTS):
        return True
    if found := _ASKED_AND_CONTEXT.search(text):
        asked, context = map(int, found.groups())
    elif found := _CONTEXT_AND_ASKED.search(text):
        context, asked = map(int, found.groups())
    else:
        return False
    return asked > context - context // PROMPT_SHARE_MIN
