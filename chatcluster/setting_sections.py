"""The sections of a replica's settings, in the order of the documents. What their fields are: ``setting_fields.py``.

Relations between settings are checked as well: a lease that one late heartbeat would lose is refused.
"""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass

from chatcluster.errors import ConfigError
from chatcluster.setting_checks import check_header_text, check_http_url, check_worker_id
from chatcluster.setting_fields import Section, setting

LLM_KINDS = ("openai", "anthropic", "openai-responses")
LLM_INPUTS = ("text", "image", "pdf")
ALL_ADDRESSES = ("", "0.0.0.0", "::")


@dataclass(frozen=True, kw_only=True)
class Servers(Section):
    """What a replica connects to."""

    database_url: str = setting("", "Postgres URL: postgresql://user:password@host:5432/name", secret=True)
    database_direct_url: str = setting(
        "",
        "Postgres URL that by-passes a transaction pooler, for session locks; 'off' turns the session watch off. "
        "Default: the same as the database URL",
        secret=True,
    )
    redis_url: str = setting("", "Redis URL: redis://[:password@]host:6379/0", secret=True)
    database_pool_size: int = setting(10, "Postgres connections for transactions", minimum=1, maximum=200)
    statement_timeout_seconds: float = setting(10.0, "Longest Postgres statement", minimum=0.1, maximum=600)

    @property
    def direct_url(self) -> str | None:
        """The URL for session locks, None where the watch is off."""
        if self.database_direct_url == "off":
            return None
        return self.database_direct_url or self.database_url


@dataclass(frozen=True, kw_only=True)
class Replica(Section):
    """What one process is called, where it listens, and how much of the work it takes."""

    name: str = setting("", "Name of this replica in listings. Default: host name and port")
    host: str = setting("127.0.0.1", "Address that this replica listens on")
    port: int = setting(8100, "Port that this replica listens on; 0 picks a free one", minimum=0, maximum=65535)
    advertise: str = setting(
        "", "Address shown to others in listings. Default: host:port, or where that is all addresses the host name"
    )
    slots: int = setting(
        64, "Chats that this replica works on, 7 of 8 places for one user; 0: readers only", minimum=0, maximum=10_000
    )
    claim_batch: int = setting(10, "Chats claimed by one statement", minimum=1, maximum=1000)
    claim_poll_seconds: float = setting(1.0, "Safety net: look for runnable chats at least this often", minimum=0.01)
    user_chats_max: int = setting(
        0, "Running chats of one user at a time, in the whole cluster; 0: any number", minimum=0
    )
    takeovers_max: int = setting(
        10, "A turn whose tenures end so often with the death of their replica ends in an error", minimum=4
    )
    replaces: str = setting("", "Worker ID of a process that is known to be dead: its chats are freed at start")

    def check(self) -> None:
        if self.replaces:
            check_worker_id(self.replaces)
        self.require_visible("name", "advertise")

    def display_name(self, port: int) -> str:
        return self.name or f"{socket.gethostname()}:{port}"

    def advertised_address(self, port: int) -> str:
        host = socket.gethostname() if self.host in ALL_ADDRESSES else self.host
        return self.advertise or (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


@dataclass(frozen=True, kw_only=True)
class Ownership(Section):
    """Leases, and how they end."""

    heartbeat_seconds: float = setting(1.0, "Time between renewals of the lease", minimum=0.05, maximum=60)
    lease_ttl_seconds: float = setting(
        5.0, "A replica without a renewal for this long is dead", minimum=0.3, maximum=600
    )
    lease_margin_seconds: float = setting(
        1.0, "A replica that cannot renew stops its own work this long before its lease ends", minimum=0.05
    )
    sweep_seconds: float = setting(0.5, "Time between looks for dead replicas", minimum=0.05)
    drain_seconds: float = setting(30.0, "At SIGTERM, time for each chat to reach the end of its step", minimum=0)
    drain_notice_seconds: float = setting(
        2.0,
        "At SIGTERM, requests are served for at least this long: load balancers shall see that /readyz says 503",
        minimum=0,
        maximum=600,
    )

    def check(self) -> None:
        if self.lease_ttl_seconds < 3 * self.heartbeat_seconds:
            raise ConfigError(
                "lease-ttl-seconds must be at least 3 x heartbeat-seconds: one late heartbeat is no death"
            )
        if self.lease_margin_seconds >= self.lease_ttl_seconds - self.heartbeat_seconds:
            raise ConfigError("lease-margin-seconds must be less than lease-ttl-seconds minus heartbeat-seconds")

    @property
    def self_fence_seconds(self) -> float:
        """How long after the start of the last good renewal a replica stops its own work."""
        return self.lease_ttl_seconds - self.lease_margin_seconds


@dataclass(frozen=True, kw_only=True)
class Llm(Section, prefix="llm_"):
    """The model's server, where it is not configured in the database."""

    base_url: str = setting(
        "", "Base URL of the model's server, such as https://host/v1", fallbacks=("OPENAI_BASE_URL",)
    )
    kind: str = setting(
        "openai",
        "What the model's server speaks: openai (Chat Completions: most do), anthropic (Messages) or openai-responses",
    )
    api_key: str = setting("", "API key for the model's server", secret=True, fallbacks=("OPENAI_API_KEY",))
    model: str = setting("", "Model to ask for, where a chat names none", fallbacks=("OPENAI_MODEL",))
    input: str = setting(
        "text,image,pdf", "What the server's models take in a conversation; the rest is replaced by a note"
    )
    include_usage: bool = setting(True, "Ask the provider for token counts (a few old servers refuse that)")
    context_tokens: int = setting(0, "Tokens that the model takes; 0: unknown", minimum=0, maximum=1 << 30)

    def check(self) -> None:
        if self.base_url:
            check_http_url("llm-base-url", self.base_url.strip())
        check_header_text("llm-api-key", self.api_key.strip())
        if self.kind not in LLM_KINDS:
            raise ConfigError(f"llm-kind must be one of {', '.join(LLM_KINDS)}")
        if not {"text"} <= set(self.input.split(",")) <= set(LLM_INPUTS):
            raise ConfigError(f"llm-input must be text, and what else of {','.join(LLM_INPUTS)} is taken")
        self.require_visible("model")


@dataclass(frozen=True, kw_only=True)
class Turns(Section):
    """How a turn goes: attempts at a response, and when it is too much."""

    compaction_percent: int = setting(70, "A chat that fills more of its model is summarised", minimum=10, maximum=95)
    model_silence_seconds: float = setting(
        600.0, "Abort an attempt when the model is silent for this long; 0 turns that off", minimum=0
    )
    model_standstill_seconds: float = setting(
        0.0,
        "Abort an attempt when no text, reasoning or tool call comes for this long, whatever signs of life the server "
        "gives; 0 is twice model-silence-seconds",
        minimum=0,
    )
    attempts_max: int = setting(
        25, "Attempts at one model response; a fall-back has as many of its own", minimum=1, maximum=1000
    )
    retry_base_seconds: float = setting(1.0, "Wait before the second attempt; doubles with each", minimum=0)
    retry_cap_seconds: float = setting(
        60.0, "Longest wait between attempts, unless the provider asks for more", minimum=0
    )
    retry_after_cap_seconds: float = setting(
        600.0, "Longest wait that a provider can ask for: meanwhile the chat occupies a slot", minimum=0
    )
    steps_max: int = setting(1200, "Model responses in one turn", minimum=1)
    titles: bool = setting(True, "Have a model name chats that were created without a title")
    title_model: str = setting("", "Model that names chats. Default: that of the chat")
    computer_use_model: str = setting(
        "", "Model of sub-agents that work on a screen. Default: that of their chat, and no call can ask for another"
    )
    usage_limit_steps: bool = setting(True, "A turn ends at its next step once its user's usage limit is reached")

    def check(self) -> None:
        if self.retry_base_seconds > self.retry_cap_seconds:
            raise ConfigError("retry-base-seconds must not be above retry-cap-seconds")
        self.require_visible("title_model", "computer_use_model")

    @property
    def standstill_seconds(self) -> float:
        """How long an attempt may go on without a token; without end only where silence may, too."""
        return self.model_standstill_seconds or 2 * self.model_silence_seconds or math.inf


@dataclass(frozen=True, kw_only=True)
class Tools(Section):
    """Calls, and what chats can have by them: sub-agents and workspaces."""

    tools_concurrent: int = setting(8, "Tool calls of one step that run at a time", minimum=1, maximum=100)
    approval_seconds: float = setting(86_400.0, "How long a tool call waits for a person's approval", minimum=1)
    mcp_approvals: bool = setting(False, "Let programs at /mcp approve the calls of their own chats")
    sign_in_seconds: float = setting(86_400.0, "How long a tool call waits for its user to sign in", minimum=1)
    answer_seconds: float = setting(
        86_400.0, "How long a tool call waits for the answer to what its server asks", minimum=1
    )
    live_answer_seconds: float = setting(
        300.0, "As answer-seconds, where the server holds the call meanwhile, and its replica with it", minimum=1
    )
    client_tool_seconds: float = setting(300.0, "How long a tool call waits for the result of the client", minimum=1)
    agents: bool = setting(False, "Chats may have sub-agents, where they do not say otherwise")
    agents_depth_max: int = setting(1, "How deep agents of agents go; 1: agents have none", minimum=1, maximum=5)
    agents_max: int = setting(20, "Agents that one chat may have, with the agents of these", minimum=1, maximum=100)
    workspaces_per_user: int = setting(20, "Workspaces that one user may have; 0: any number", minimum=0)


@dataclass(frozen=True, kw_only=True)
class Streaming(Section):
    """From the model to readers."""

    coalesce_ms: float = setting(
        15.0, "Text deltas of a chat are joined for this long after the first", minimum=0, maximum=1000
    )
    attempt_bytes_max: int = setting(
        8 << 20, "Streamed bytes kept in memory for one step of one chat", minimum=64 << 10
    )
    subscriber_buffer_bytes: int = setting(
        1 << 20, "A reader that is this far behind is cut off and resumes", minimum=16 << 10
    )
    subscribers_max: int = setting(10_000, "Open event streams on this replica", minimum=1)
    subscribers_per_user: int = setting(
        1000,
        "Open event streams of one user on this replica; 0 is no limit but that half of all places are left to others",
        minimum=0,
    )
    feed_poll_seconds: float = setting(
        2.0, "Safety net: look for changes of a followed chat at least this often", minimum=0.05
    )
    sse_heartbeat_seconds: float = setting(
        15.0, "Comment to idle readers, below the idle limits of proxies", minimum=0.05
    )
    send_stall_seconds: float = setting(30.0, "A reader that takes nothing for this long is cut off", minimum=0.1)
    reader_bytes_per_second_min: float = setting(
        2048.0,
        "A reader that takes less, averaged over send-stall-seconds while there is more to send, is cut off",
        minimum=1,
    )


@dataclass(frozen=True, kw_only=True)
class Storage(Section):
    """How secrets are kept, and for how long what is deleted."""

    encryption_keys: str = setting(
        "",
        "Keys for secrets in the database, separated by commas: the first encrypts, all decrypt. "
        "`chatcluster secrets new-key` makes one",
        secret=True,
    )
    deleted_keep_days: float = setting(
        7.0,
        "Days until messages that were edited away, and tokens that are of no use, are purged; 0 keeps them",
        minimum=0,
    )


@dataclass(frozen=True, kw_only=True)
class Browsers(Section):
    """Where browsers are, and how long they are signed in."""

    public_url: str = setting(
        "",
        "Address at which browsers reach the cluster, such as https://chat.example, where proxies do not tell, and for "
        "signing in at servers of tools. Default: http://ADVERTISE",
    )
    session_idle_hours: float = setting(
        168.0, "A browser's session that is not used for so long ends", minimum=0.1, maximum=100_000
    )
    session_hours_max: float = setting(720.0, "A session ends so long after its start", minimum=0.1, maximum=100_000)

    def check(self) -> None:
        if self.public_url:
            check_http_url("public-url", self.public_url.strip())


@dataclass(frozen=True, kw_only=True)
class Push(Section, prefix="push_"):
    """How browsers are told of answers."""

    key: str = setting(
        "",
        "Key with which push services know this cluster; without it no browser is told of answers. The same on every "
        "replica. `chatcluster secrets new-push-key` makes one",
        secret=True,
    )
    contact: str = setting(
        "mailto:operators@localhost",
        "Where operators of push services reach those of this cluster: mailto:… or https://… (some services insist)",
    )
    private_addresses: bool = setting(
        False, "Let subscriptions of browsers lead to private addresses, and to http: for push services of one's own"
    )

    def check(self) -> None:
        if not self.contact.startswith(("mailto:", "https://")) or not self.contact.isascii():
            raise ConfigError("push-contact must begin with mailto: or https://")


@dataclass(frozen=True, kw_only=True)
class Http(Section):
    """Connections and requests."""

    connections_max: int = setting(
        12_000, "Open HTTP connections of this replica, as far as it may open so many files", minimum=16
    )
    silent_connections_max: int = setting(
        500,
        "HTTP connections that have not sent the head of a request; over it the oldest is dropped, if it had a second",
        minimum=1,
    )
    silent_connections_per_address: int = setting(200, "Silent HTTP connections of one address", minimum=1)
    head_seconds: float = setting(10.0, "Time for the head of a request to arrive", minimum=0.1, maximum=600)
    requests_per_user: int = setting(
        4, "Requests of one user that this replica serves at a time, others wait; 0 is no limit", minimum=0
    )
    requests_per_second_per_user: float = setting(
        500.0, "Requests of one user that this replica takes in a second; 0 is no limit", minimum=0
    )
    auth_failures_per_second: float = setting(
        10.0, "Unknown tokens from one address that are looked up in a second; 0 is no limit", minimum=0
    )


@dataclass(frozen=True, kw_only=True)
class Sizes(Section):
    """How large what users send may be."""

    body_bytes_max: int = setting(1 << 20, "Largest request body", minimum=1024)
    history_bytes_max: int = setting(
        16 << 20, "A chat whose history and queue have so many bytes takes no more messages", minimum=64 << 10
    )
    content_bytes_max: int = setting(512 << 10, "Largest content of one message", minimum=1024)
    file_bytes_max: int = setting(10 << 20, "Largest file that can be uploaded", minimum=1024, maximum=10 << 20)
    user_files_bytes_max: int = setting(
        1 << 30, "Bytes that the files of one user may have together; 0 is no limit", minimum=0
    )


@dataclass(frozen=True, kw_only=True)
class Telemetry(Section):
    """What a replica tells of itself."""

    loop_watch: bool = setting(False, "Measure the event loop's steps, for those who look for stalls")
    log_level: str = setting("info", "debug, info, warning or error")
    log_format: str = setting("json", "json, or text for people")

    def check(self) -> None:
        if self.log_level not in ("debug", "info", "warning", "error"):
            raise ConfigError("log-level must be debug, info, warning or error")
        if self.log_format not in ("json", "text"):
            raise ConfigError("log-format must be json or text")
