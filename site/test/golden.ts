/** The golden sequences, which the Python client's tests read as well. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ChatView } from "../src/client/view.ts";
import { textOf } from "../src/client/view.ts";
import type { ChatEvent } from "../src/client/wire.ts";

const FOLDER = join(import.meta.dirname, "../../tests/golden");

export type Golden = { name: string; promise: string; events: [string, ChatEvent][]; view: Record<string, unknown> };

export const GOLDEN: Golden[] = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".json"))
  .map((name) => ({ name, ...JSON.parse(readFileSync(join(FOLDER, name), "utf8")) }));

/** A view as the sequences write it down. */
export function written(view: ChatView): Record<string, unknown> {
  return {
    cursor: view.cursor,
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
    handover: view.handover && { worker_id: view.handover.workerId, cause: view.handover.cause },
  };
}

/** What a replica tells first to a reader that resumes after these events. */
export function opening(events: [string, ChatEvent][]): [string, ChatEvent][] {
  const last = (type: string) => events.findLast(([, event]) => event.type === type)?.[1];
  const cursor = events.at(-1)?.[0] ?? "";
  const since = (type: string, ...ends: string[]) => {
    const at = events.findLastIndex(([, event]) => event.type === type);
    return at >= 0 && !events.slice(at).some(([, event]) => ends.includes(event.type)) ? events[at]?.[1] : undefined;
  };
  const told = [
    last("status"),
    last("queue"),
    since("retry", "attempt", "message"),
    since("error", "message"),
    since("ready", "history_reset"),
  ];
  return told.filter((event) => event !== undefined).map((event) => [cursor, event]);
}
