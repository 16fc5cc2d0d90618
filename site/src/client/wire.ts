/** The JSON of events and messages. What a newer server adds is passed over; see `view.ts`. */

export type Status = "pending" | "running" | "interrupting" | "waiting" | "requires_action" | "error";

export type ToolProgress = { progress: number; total?: number; message?: string };

export type Part =
  | { type: "text"; text: string }
  | { type: "reasoning"; text: string }
  | { type: "tool_call"; id: string; name: string; arguments: string; progress?: ToolProgress }
  | { type: "tool_arguments"; call_id: string; text: string }
  | ({ type: "tool_progress"; call_id: string } & ToolProgress)
  | { type: "tool_result"; call_id: string; content: string | readonly Part[]; is_error?: boolean };

export type Usage = {
  input_tokens?: number;
  output_tokens?: number;
  reasoning_tokens?: number;
  cached_input_tokens?: number;
};

export type Message = {
  id: number;
  role: "system" | "user" | "assistant" | "tool";
  parts: readonly Part[];
  revision: number;
  created_at: string;
  finish_reason?: string;
  model?: string;
  usage?: Usage;
};

export type Queued = { id: number; parts: readonly Part[]; created_at: string; model?: string };
export type ErrorInfo = { code: string; message: string };
export type Retry = {
  attempt: number;
  delay_ms: number;
  error: string;
  kind: string;
  retrying_at: string | null;
  provider?: string;
  status_code?: number;
};
export type Turn = { message_id: number; outcome: string; duration_ms: number; code?: string };
export type ActionCall = {
  call_id: string;
  name: string;
  kind: "approval" | "client" | "sign_in";
  arguments: string;
  deadline?: string | null;
};

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
};
