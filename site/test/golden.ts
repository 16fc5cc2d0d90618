/** The golden sequences, which the Python client's tests read as well. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ChatView } from "../src/client/view.ts";
import { textOf } from "../src/client/view.ts";
import type { ActionCall, ChatEvent } from "../src/client/wire.ts";

const FOLDER = join(import.meta.dirname, "../../tests/golden");

type Written = Record<string, unknown>;
type Sequence = { name: string; promise: string; events: Told[] };
export type Told = [string, ChatEvent & { chat_id?: string }];
export type Golden = Sequence & { view: Written };
/** A chat and its agents in one stream; the view of the chat is that of no ID. */
export type GoldenFamily = Sequence & { views: Record<string, Written> };

const read = (folder: string) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .map((name) => ({ name, ...JSON.parse(readFileSync(join(folder, name), "utf8")) }));

export const GOLDEN: Golden[] = read(FOLDER);
export const FAMILIES: GoldenFamily[] = read(join(FOLDER, "families"));

/** A view as the sequences write it down. */
export function written(view: ChatView): Record<string, unknown> {
  return {
    ...(view.cursor && { cursor: view.cursor }),
    status: view.status,
    archived: view.archived,
    epoch: view.epoch,
    worker_id: view.workerId,
    title: view.title,
    messages: view.messages.map((message) => [message.id, message.role, textOf(message.parts)]),
    queue: view.queue.map((queued) => queued.id),
    attempt: view.attempt,
    preview: view.preview,
    retry: view.retry?.attempt ?? null,
    error: view.error?.code ?? null,
    turn: view.turn?.outcome ?? null,
    ready: view.ready,
    ...(Object.keys(view.outputs).length > 0 && { outputs: view.outputs }),
    ...(Object.keys(view.progress).length > 0 && { progress: view.progress }),
    ...(view.notices.length > 0 && { notices: view.notices.map(({ code }) => code) }),
    ...(view.asked.length > 0 && { asked: view.asked.map(asWritten) }),
    handover: view.handover && { worker_id: view.handover.workerId, cause: view.handover.cause },
  };
}

const asWritten = ({ call_id, kind, digest, questions = [] }: ActionCall) => [
  call_id,
  kind,
  digest,
  ...questions.map(({ key }) => key),
];

/** What a replica tells first to a reader that resumes after these events. */
export function opening(events: Told[]): Told[] {
  const last = (type: string) => events.findLast(([, event]) => event.type === type)?.[1];
  const cursor = events.at(-1)?.[0] ?? "";
  const since = (type: string, ...ends: string[]) => {
    const at = events.findLastIndex(([, event]) => event.type === type);
    return at >= 0 && !events.slice(at).some(([, event]) => ends.includes(event.type)) ? events[at]?.[1] : undefined;
  };
  const asked = since("action_required");
  const told = [
    last("status"),
    last("queue"),
    asked?.type === "action_required" && asked.calls.length ? asked : undefined,
    since("retry", "attempt", "message"),
    since("error", "message"),
    since("ready", "history_reset"),
  ];
  return told.filter((event) => event !== undefined).map((event) => [cursor, event]);
}

/** The same of a chat and each agent that was told of. */
export function openingOfFamily(events: Told[]): Told[] {
  const chats = [...new Set(events.map(([, event]) => event.chat_id))];
  return chats.flatMap((id) => opening(events.filter(([, event]) => event.chat_id === id)));
}
