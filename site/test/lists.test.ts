/** The lists of chats as the tab's stream keeps them up to date, and when they are read again. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { keepAnswer, keepDraft, keepEdit, keptAnswer, keptDraft, keptEdit } from "../src/chat/drafts.ts";
import type { Chat } from "../src/client/index.ts";
import { type ChatPages, queries, readListsAgain, takeChange } from "../src/server.ts";

const chat = (id: string, more: object = {}) =>
  ({ id, title: id, pinned: false, archived: false, snapshot_version: 1, created_at: "2026-02-01", ...more }) as Chat;
const list = (has_more: boolean, ...chats: Chat[]): ChatPages => ({ pages: [{ chats, has_more }], pageParams: [null] });

let readings: (() => void)[];

beforeEach(() => {
  localStorage.clear();
  vi.useFakeTimers();
  readings = [];
  vi.spyOn(queries, "invalidateQueries").mockImplementation(
    () => new Promise<void>((resolve) => void readings.push(resolve)),
  );
});
afterEach(async () => {
  for (const end of readings) end();
  await vi.runAllTimersAsync();
  vi.useRealTimers();
  vi.restoreAllMocks();
  queries.clear();
});

function shown(hasMore: boolean): void {
  queries.setQueryData(["chats", { q: "", archived: false }], list(hasMore, chat("a"), chat("b")));
  queries.setQueryData(["chats", { pinned: true }], list(false));
}

const CALL = { call_id: "call_1", digest: "d" };

describe("what was written and not sent", () => {
  test.each([
    ["running", 2, "mine"],
    ["requires_action", 2, "mine"],
    ["waiting", 0, "mine"],
    ["waiting", 2, ""],
    ["error", 2, ""],
  ])("into what a call asks is forgotten once the chat is at rest: %s, version %s", (status, version, left) => {
    queries.setQueryData(["chat", "a"], chat("a", { status: "requires_action" }));
    for (const id of ["a", "b"]) keepAnswer(id, CALL, "mine");
    told("status", chat("a", { status, snapshot_version: version }));
    expect([keptAnswer("a", CALL), keptAnswer("b", CALL)]).toEqual([left, "mine"]);
  });

  test("into what its agents ask is not, as they go on while it is at rest", () => {
    const theirs = { ...CALL, chat_id: "agent" };
    keepAnswer("a", theirs, "mine");
    told("status", chat("a", { status: "waiting", snapshot_version: 2 }));
    expect(keptAnswer("a", theirs)).toBe("mine");
    takeChange({ change: "deleted", chatId: "a", chat: null, diff: null });
    expect(keptAnswer("a", theirs)).toBe("");
  });

  test("goes with the chat", () => {
    for (const id of ["a", "b"]) {
      for (const name of [id, `files.${id}`, `attempt.${id}`]) keepDraft(name, "mine");
      keepEdit(id, 7, "mine");
      keepAnswer(id, CALL, "mine");
    }
    takeChange({ change: "deleted", chatId: "a", chat: null, diff: null });
    const keptOf = (id: string) => [id, `files.${id}`, `attempt.${id}`].map(keptDraft);
    expect([...keptOf("a"), keptEdit("a", 7), keptAnswer("a", CALL)].join("")).toBe("");
    expect([...keptOf("b"), keptEdit("b", 7), keptAnswer("b", CALL)]).toEqual(Array(5).fill("mine"));
  });
});

const told = (change: string, what: Chat) => takeChange({ change, chatId: what.id, chat: what, diff: null });

describe("a change of a chat", () => {
  test.each([
    ["that is listed is taken in", true, "status", chat("a", { snapshot_version: 2 }), 0],
    [
      "that is older than what is listed concerns no list",
      true,
      "status",
      chat("old", { created_at: "2026-01-01" }),
      0,
    ],
    ["that a whole list lacks has it read again", false, "status", chat("missed"), 1],
    ["that was pinned elsewhere has it put among those", true, "changed", chat("a", { pinned: true }), 1],
    [
      "that is pinned and older than what is listed as well",
      true,
      "changed",
      chat("old", { pinned: true, created_at: "2026-01-01" }),
      1,
    ],
    ["that is new has the lists read again", true, "created", chat("c"), 1],
  ])("%s", async (_, hasMore, change, what, times) => {
    shown(hasMore);
    told(change, what);
    await vi.advanceTimersByTimeAsync(0);
    expect(readings).toHaveLength(times);
  });
});

test("where chats come by the hundred no reading is broken off, and one more follows", async () => {
  for (let n = 0; n < 100; n++) readListsAgain();
  await vi.advanceTimersByTimeAsync(0);
  expect(readings).toHaveLength(1);
  readings[0]?.();
  await vi.advanceTimersByTimeAsync(500);
  expect(readings).toHaveLength(2);
  readings[1]?.();
  await vi.advanceTimersByTimeAsync(5000);
  expect(readings).toHaveLength(2);
  readListsAgain();
  await vi.advanceTimersByTimeAsync(0);
  expect(readings).toHaveLength(3);
});
