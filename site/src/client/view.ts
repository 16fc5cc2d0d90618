/**
 * What a client shows of a chat: a view that is kept by applying the events of its stream, in order. Pure.
 *
 * The twin of `ChatView` in Python; both fold the sequences in tests/golden to the same state. The rules:
 *
 * - `message` appends to the history, or replaces the message of the same `id`. A message of the assistant or of a tool
 *   takes the place of the preview: what was streamed is now history, in the same words.
 * - `part` appends to the preview. Text after text is one text.
 * - Pieces of `tool_output` are what a running call has printed so far, joined by their offsets: `outputs`, until the
 *   call's result is history. They stay through attempts, as another replica goes on with the call. So does its
 *   `tool_progress`: how far it is. A `notice` says what the turn goes on without, until the turn ends.
 * - `attempt`, `history_reset`, `retry` and `error` drop the preview: what it showed did not become history.
 * - `history_reset` drops the history as well; all of it follows.
 * - `resumed` drops nothing: another replica goes on with the answer under way, and its rest follows.
 * - `queue` is the whole queue; `status` and `title` replace what was there. A `retry` is shown until the next attempt,
 *   message or change of status, an `error` until the chat runs again.
 * - A `status` at rest drops the preview too, and what was asked of the user unless it is still asked.
 * - A later epoch with a worker, by a takeover or a drain, is a handover: it is told until a user's next message.
 * - `ready` says that the view is whole; `turn` that a turn ended: its messages are in the history by then, so it drops
 *   what is left of the preview.
 *
 * Events and parts of a kind that is not known here are passed over: a client need not be as new as the replica that
 * happens to serve it. A view is never changed, only followed by another one; what did not change is the same object.
 */

import { type CallOutput, withPiece } from "./outputs.ts";
import type {
  ActionCall,
  ChatEvent,
  ErrorInfo,
  Message,
  Part,
  Queued,
  Retry,
  Status,
  ToolProgress,
  Turn,
} from "./wire.ts";

/** The chat changed hands in this turn: the worker that goes on, and why it does. */
export type Handover = { epoch: number; workerId: string; cause: string };

export type Notice = Extract<Part, { type: "notice" }>;

export type ChatView = {
  cursor: string;
  status: Status | "";
  archived: boolean;
  epoch: number;
  workerId: string | null;
  /** What led to this status or owner; empty where the server does not say. */
  cause: string;
  title: string | null;
  messages: readonly Message[];
  queue: readonly Queued[];
  attempt: number;
  /** The parts of the answer under way. */
  preview: readonly Part[];
  /** What the calls that run have printed so far, by call ID. */
  outputs: Readonly<Record<string, CallOutput>>;
  /** How far the calls that run are, by call ID, as far as they say. */
  progress: Readonly<Record<string, ToolProgress>>;
  /** What the turn under way goes on without. */
  notices: readonly Notice[];
  retry: Retry | null;
  error: ErrorInfo | null;
  /** The last turn that ended. */
  turn: Turn | null;
  /** What the chat waits for, in status `requires_action`. */
  asked: readonly ActionCall[];
  /** Since the last message of a user: the last time that another replica went on. */
  handover: Handover | null;
  /** How another replica goes on with the very answer under way; nothing where it is begun anew. */
  resumed: string | null;
  /** Whether the view is whole: false at first, and while history is told anew. */
  ready: boolean;
  /** Whether the stream has told the queue. Until then an answer of the API may correct it, from then on nothing may. */
  queueIsTold: boolean;
  /** Whether there are earlier messages than those here. */
  isTruncated: boolean;
  /** How often history was told anew. */
  resets: number;
};

export const EMPTY_VIEW: ChatView = Object.freeze({
  cursor: "",
  status: "",
  archived: false,
  epoch: 0,
  workerId: null,
  cause: "",
  title: null,
  messages: [],
  queue: [],
  attempt: 0,
  preview: [],
  outputs: {},
  progress: {},
  notices: [],
  retry: null,
  error: null,
  turn: null,
  asked: [],
  handover: null,
  resumed: null,
  ready: false,
  queueIsTold: false,
  isTruncated: false,
  resets: 0,
});

const AT_REST: ReadonlySet<string> = new Set(["waiting", "error", "requires_action"]);

/** Whether the chat has nothing to do: the turn is over, and nothing waits. */
export function isAtRest(view: ChatView): boolean {
  return (view.status === "waiting" || view.status === "error") && view.queue.length === 0;
}

/** The visible text of parts: their text parts joined. */
export function textOf(parts: readonly Part[]): string {
  let text = "";
  for (const part of parts) if (part.type === "text") text += part.text;
  return text;
}

/** The view after one event. Events come in the order of their stream. */
export function applied(view: ChatView, cursor: string, event: ChatEvent): ChatView {
  const changed = change(view, event);
  return { ...view, ...changed, cursor: cursor || view.cursor };
}

function change(view: ChatView, event: ChatEvent): Partial<ChatView> {
  switch (event.type) {
    case "status":
      return statusChange(view, event);
    case "message":
      return messageChange(view, event.message);
    case "part":
      return partChange(view, event.part);
    case "attempt":
      return { ...DROPPED, attempt: event.attempt, resumed: null };
    case "resumed":
      return { attempt: event.attempt, resumed: event.how };
    case "history_reset":
      return {
        ...DROPPED,
        ...NONE_RUNS,
        messages: [],
        ready: false,
        isTruncated: false,
        resets: view.resets + 1,
      };
    case "queue":
      return { queue: event.queue, queueIsTold: true };
    case "retry":
      return { ...DROPPED, retry: event };
    case "error":
      return { ...DROPPED, error: event.error };
    case "title":
      return { title: event.title };
    case "turn":
      return { turn: event, notices: EMPTY_VIEW.notices, ...DROPPED };
    case "action_required":
      return { asked: event.calls };
    case "ready":
      return { ready: true };
    default:
      return {};
  }
}

const DROPPED = { preview: [] as readonly Part[], retry: null } as const;
const NONE_RUNS = { outputs: EMPTY_VIEW.outputs, progress: EMPTY_VIEW.progress };

function statusChange(view: ChatView, event: Extract<ChatEvent, { type: "status" }>): Partial<ChatView> {
  const isActive = event.status === "running" || event.status === "pending";
  return {
    status: event.status,
    archived: event.archived,
    epoch: event.epoch,
    workerId: event.worker_id,
    cause: event.cause ?? "",
    error: event.status === "error" ? view.error : null,
    retry: isActive ? view.retry : null,
    ...(AT_REST.has(event.status) && { ...NONE_RUNS, preview: [] }),
    asked: event.status === "requires_action" ? view.asked : [],
    handover: handoverAfter(view, event),
  };
}

function handoverAfter(view: ChatView, event: Extract<ChatEvent, { type: "status" }>): Handover | null {
  const { cause, epoch, worker_id: workerId } = event;
  const isHandover = workerId !== null && epoch > view.epoch && (cause === "takeover" || cause === "drain");
  return isHandover ? { epoch, workerId, cause } : view.handover;
}

function messageChange(view: ChatView, message: Message): Partial<ChatView> {
  const isAnswer = message.role === "assistant" || message.role === "tool";
  return {
    messages: placed(view.messages, message),
    retry: null,
    preview: isAnswer ? [] : view.preview,
    outputs: withoutEnded(view.outputs, message),
    progress: withoutEnded(view.progress, message),
    handover: message.role === "user" ? null : view.handover,
    resumed: message.role === "user" ? null : view.resumed,
  };
}

function partChange(view: ChatView, part: Part): Partial<ChatView> {
  switch (part.type) {
    case "tool_output": {
      const known = view.outputs[part.call_id];
      return { outputs: { ...view.outputs, [part.call_id]: withPiece(known, part) } };
    }
    case "tool_progress": {
      const { call_id, progress, total, message } = part;
      return {
        progress: { ...view.progress, [call_id]: { progress, total: total ?? null, message: message ?? null } },
      };
    }
    case "notice":
      return { notices: [...view.notices, part] };
    default:
      return { preview: appended(view.preview, part) };
  }
}

/** What running calls tell of themselves, without those that have their result in this message. */
function withoutEnded<T>(told: Readonly<Record<string, T>>, message: Message): Readonly<Record<string, T>> {
  const ended = new Set(message.parts.flatMap((part) => (part.type === "tool_result" ? [part.call_id] : [])));
  if (!Object.keys(told).some((callId) => ended.has(callId))) return told;
  return Object.fromEntries(Object.entries(told).filter(([callId]) => !ended.has(callId)));
}

/** Messages in the order of their IDs, each once. Nearly always the new one is the last. */
function placed(messages: readonly Message[], message: Message): readonly Message[] {
  let at = messages.length;
  while (at > 0 && (messages[at - 1] as Message).id >= message.id) at--;
  const replaces = messages[at]?.id === message.id;
  return [...messages.slice(0, at), message, ...messages.slice(replaces ? at + 1 : at)];
}

function appended(preview: readonly Part[], part: Part): readonly Part[] {
  switch (part.type) {
    case "text":
    case "reasoning": {
      const last = preview.at(-1);
      if (last?.type !== part.type) return [...preview, part];
      return [...preview.slice(0, -1), { ...last, text: last.text + part.text }];
    }
    case "source":
    case "tool_call":
    case "tool_result":
    case "image":
      return [...preview, part];
    case "tool_arguments":
      return preview.map((call) =>
        call.type === "tool_call" && call.id === part.call_id
          ? { ...call, arguments: call.arguments + part.text }
          : call,
      );
    default:
      return preview;
  }
}

/** A page of history as the API answers it; `cursor` is where the stream goes on after it. */
export type Page = {
  messages: readonly Message[];
  queue?: readonly Queued[];
  cursor?: string | null;
  has_more: boolean;
};

/**
 * The view with the newest page of history, as an answer of the API or a cache has it. Until the stream has spoken it is
 * the state; from then on the stream's word stands, and of the page only a queue that the stream has not told is taken.
 */
export function hydrated(view: ChatView, page: Page): ChatView {
  const queue = view.queueIsTold ? view.queue : (page.queue ?? view.queue);
  if (view.status !== "") return { ...view, queue };
  return { ...view, queue, messages: page.messages, cursor: page.cursor ?? view.cursor, isTruncated: page.has_more };
}

/** The view with a page of earlier messages, unless history was rewritten since it was asked for. */
export function extended(view: ChatView, page: Page, resets: number): ChatView {
  if (resets !== view.resets) return view;
  const first = view.messages[0]?.id ?? Number.POSITIVE_INFINITY;
  const earlier = page.messages.filter((message) => message.id < first);
  return { ...view, messages: [...earlier, ...view.messages], isTruncated: page.has_more };
}
