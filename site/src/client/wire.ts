/**
 * The JSON of events and messages, as narrow as a client wants it; `schema.d.ts` has all of the API, written from its
 * OpenAPI document. What a newer server adds is passed over; see `view.ts`.
 */

import type { components } from "./schema.d.ts";

/** Every answer of the API and every body, by its name in the OpenAPI document. */
export type Schemas = components["schemas"];

export type Status = "pending" | "running" | "interrupting" | "waiting" | "requires_action" | "error";

export type ToolProgress = { progress: number; total?: number | null; message?: string | null };

/** A file as the server knows it. */
export type FileInfo = { id: string; name: string; media_type: string; size_bytes: number };
export type FilePart = { type: "file"; file_id: string; name: string; media_type: string; size_bytes: number };

/** What is sent: a text, or parts. */
export type Content = string | readonly ({ type: "text"; text: string } | { type: "file"; file_id: string })[];

/** What the model thought; a piece of it may say how long that took, without any words. */
export type Reasoning = { type: "reasoning"; text: string; duration_ms?: number | null };

/** Where the provider found, when it searched the web, what the text before it says. */
export type Source = { type: "source"; url: string; title?: string | null };

export type Part =
  | FilePart
  | { type: "text"; text: string }
  | Reasoning
  | Source
  | { type: "tool_call"; id: string; name: string; arguments: string }
  | { type: "tool_arguments"; call_id: string; text: string }
  | ({ type: "tool_progress"; call_id: string } & ToolProgress)
  | { type: "tool_output"; call_id: string; offset: number; end: number; text: string }
  | { type: "tool_result"; call_id: string; content: string | readonly Part[]; is_error?: boolean }
  | { type: "image"; media_type: string; data: string }
  | { type: "json"; json: string }
  | { type: "resource"; uri: string; name?: string | null; text?: string | null }
  | { type: "notice"; code: string; message: string; source?: string | null };

export type Usage = {
  input_tokens?: number | null;
  output_tokens?: number | null;
  reasoning_tokens?: number | null;
  cached_input_tokens?: number | null;
  cache_write_tokens?: number | null;
  searches?: number | null;
};

/** How much has changed in the workspace of a chat, as it was found last. */
export type DiffStatus = Schemas["DiffStatus"];

/** A sum of what attempts cost. Micros are millionths of the prices' currency; null where nothing has a known cost. */
export type Bill = Schemas["Bill"];

export type Message = {
  id: number;
  role: "system" | "user" | "assistant" | "tool";
  parts: readonly Part[];
  revision: number;
  created_at: string;
  finish_reason?: string | null;
  model?: string | null;
  usage?: Usage | null;
};

export type Queued = { id: number; parts: readonly Part[]; created_at: string; model?: string | null };
export type ErrorInfo = { code: string; message: string };
export type Retry = {
  attempt: number;
  delay_ms: number;
  error: string;
  kind: string;
  retrying_at: string | null;
  provider?: string | null;
  status_code?: number | null;
  /** Which is asked next, where that is another one. */
  model?: string | null;
};
export type Turn = {
  message_id: number;
  outcome: string;
  duration_ms: number;
  code?: string | null;
  usage?: Bill | null;
};
export type ActionCall = {
  call_id: string;
  name: string;
  /** A person decides, or the program that gave the chat its tools, or what a newer server waits for. */
  kind: "approval" | "client" | "sign_in" | "question" | (string & {});
  arguments: string;
  /** Of the arguments as they are shown: others are not approved. */
  digest: string;
  deadline?: string | null;
  may_have_run?: boolean;
  /** Of the agent that waits, where it is not the chat itself: it is answered there. */
  chat_id?: string;
  /** What the server of the tool asks the user. */
  questions?: readonly CallQuestion[];
};

/** With the schema of a form, a flat object, or a page where the user has to go. */
export type CallQuestion = { key: string; message: string; schema?: Record<string, unknown>; url?: string };

export type ChatEvent =
  | {
      type: "status";
      status: Status;
      archived: boolean;
      epoch: number;
      worker_id: string | null;
      cause?: string | null;
    }
  | { type: "message"; message: Message }
  | { type: "attempt"; attempt: number }
  | { type: "resumed"; attempt: number; how: string }
  | { type: "part"; attempt: number; part: Part }
  | { type: "history_reset" }
  | { type: "queue"; queue: readonly Queued[] }
  | ({ type: "retry" } & Retry)
  | { type: "error"; error: ErrorInfo }
  | { type: "title"; title: string }
  | ({ type: "turn" } & Turn)
  | { type: "action_required"; calls: readonly ActionCall[] }
  | { type: "ready" };

export type Chat = {
  id: string;
  title: string;
  status: Status;
  archived: boolean;
  model: string | null;
  worker_id: string | null;
  epoch: number;
  snapshot_version: number;
  last_error: ErrorInfo | null;
  created_at: string;
  updated_at: string;
  pinned?: boolean;
  cause?: string;
  /** Of an agent: the chat that it works for. */
  parent_id?: string | null;
  /** Where it works. Lists do not say. */
  workspace?: Schemas["ChatWorkspace"] | null;
};
