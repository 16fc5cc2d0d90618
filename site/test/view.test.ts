import { describe, expect, test } from "vitest";
import { applied, type ChatView, EMPTY_VIEW, extended, hydrated, isAtRest } from "../src/client/view.ts";
import type { ChatEvent, Message, Part } from "../src/client/wire.ts";
import { GOLDEN, opening, written } from "./golden.ts";

const fold = (events: readonly [string, ChatEvent][], view: ChatView = EMPTY_VIEW) =>
  events.reduce((shown, [cursor, event]) => applied(shown, cursor, event), view);

describe("golden sequences, shared with the Python client", () => {
  test.each(GOLDEN)("$name: $promise", ({ events, view }) => {
    expect(written(fold(events))).toEqual(view);
  });

  test.each(GOLDEN)("$name, cut and resumed at each event", ({ events, view }) => {
    for (let at = 1; at < events.length; at++) {
      const before = events.slice(0, at);
      const resumed = fold([...opening(before), ...events.slice(at)], fold(before));
      expect(written(resumed), `cut after event ${at}`).toEqual(view);
    }
  });
});

const status = (value: string, more: object = {}) =>
  ["1.1-1", { type: "status", status: value, archived: false, epoch: 1, worker_id: "a", ...more }] as [
    string,
    ChatEvent,
  ];
const message = (id: number, text: string, role: Message["role"] = "user"): Message => ({
  id,
  role,
  parts: [{ type: "text", text }],
  revision: id,
  created_at: "2026-01-01T00:00:00Z",
});
const queued = (id: number) => ({
  id,
  parts: [{ type: "text", text: "later" } as Part],
  created_at: "2026-01-01T00:00:00Z",
});
const told = (...queue: number[]) => ["1.1-1", { type: "queue", queue: queue.map(queued) }] as [string, ChatEvent];
const page = (messages: Message[], queue: number[], cursor = "1.1-0") => ({
  messages,
  queue: queue.map(queued),
  cursor,
  has_more: false,
});
const queueOf = (view: ChatView) => view.queue.map((item) => item.id);

describe("the queue, from a cache and from the stream", () => {
  test("a refetch corrects a stale cached queue until the stream has spoken of it", () => {
    const stale = hydrated(EMPTY_VIEW, page([], [7, 8]));
    expect(queueOf(hydrated(stale, page([], [8])))).toEqual([8]);
    const opened = fold([status("running")], stale);
    expect(queueOf(hydrated(opened, page([], [])))).toEqual([]);
  });

  test("once the stream has spoken of it, no refetch changes it", () => {
    const live = fold([status("running"), told(9)], hydrated(EMPTY_VIEW, page([], [7])));
    expect(queueOf(hydrated(live, page([], [7, 8])))).toEqual([9]);
    expect(queueOf(hydrated(fold([told()], live), page([], [9])))).toEqual([]);
  });
});

describe("history, from pages and from the stream", () => {
  test("the newest page is the state until the stream speaks, and gives the cursor to go on at", () => {
    const first = hydrated(EMPTY_VIEW, page([message(1, "a")], [], "1.1-0"));
    const second = hydrated(first, page([message(1, "a"), message(2, "b")], [], "2.1-5"));
    expect(second.messages.map((item) => item.id)).toEqual([1, 2]);
    expect(second.cursor).toBe("2.1-5");
  });

  test("a page that comes after the stream has spoken brings no message back", () => {
    const live = fold(
      [status("running"), ["1.1-2", { type: "history_reset" }]],
      hydrated(EMPTY_VIEW, page([message(1, "a")], [])),
    );
    expect(hydrated(live, page([message(1, "a")], [])).messages).toEqual([]);
  });

  test("earlier messages go before those that are there, unless history was rewritten meanwhile", () => {
    const shown = hydrated(EMPTY_VIEW, { ...page([message(5, "e")], []), has_more: true });
    expect(shown.isTruncated).toBe(true);
    const earlier = { messages: [message(3, "c"), message(4, "d")], has_more: false };
    expect(extended(shown, earlier, shown.resets).messages.map((item) => item.id)).toEqual([3, 4, 5]);
    const rewritten = fold([["2.1-0", { type: "history_reset" }]], shown);
    expect(extended(rewritten, earlier, shown.resets).messages).toEqual([]);
  });
});

describe("tools", () => {
  const call: Part = { type: "tool_call", id: "c1", name: "search", arguments: "" };
  const part = (value: Part) => ["1.1-1", { type: "part", attempt: 1, part: value }] as [string, ChatEvent];

  test("arguments go to their call, and a result stands beside it", () => {
    const shown = fold([
      part(call),
      part({ type: "tool_arguments", call_id: "c1", text: '{"q":' }),
      part({ type: "tool_arguments", call_id: "c1", text: '"x"}' }),
      part({ type: "tool_result", call_id: "c1", content: "found" }),
    ]);
    expect(shown.preview[0]).toMatchObject({ arguments: '{"q":"x"}' });
    expect(shown.preview[1]).toMatchObject({ type: "tool_result", content: "found" });
  });

  test("what is asked of the user is shown while the chat waits for it", () => {
    const asked: ChatEvent = {
      type: "action_required",
      calls: [{ call_id: "c1", name: "rm", kind: "approval", arguments: "{}", digest: "d" }],
    };
    const waiting = fold([["1.1-1", asked], status("requires_action")]);
    expect(waiting.asked).toHaveLength(1);
    expect(fold([status("running")], waiting).asked).toEqual([]);
  });
});

test("a chat is at rest when nothing is left to do", () => {
  expect(isAtRest(fold([status("waiting")]))).toBe(true);
  expect(isAtRest(fold([status("running")]))).toBe(false);
  expect(isAtRest(fold([status("waiting"), told(7)]))).toBe(false);
});

test("a view is not changed by what follows it", () => {
  const before = fold([status("running"), ["1.1-2", { type: "part", attempt: 1, part: { type: "text", text: "a" } }]]);
  fold([["1.1-3", { type: "part", attempt: 1, part: { type: "text", text: "b" } }]], before);
  expect(before.preview).toEqual([{ type: "text", text: "a" }]);
});
