/** What is told while something is read is newer than what was read, whichever comes first. */

import { QueryClientProvider } from "@tanstack/react-query";
import { act, fireEvent, render, screen, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ChatList } from "../src/chat/ChatList.tsx";
import type { Chat } from "../src/client/index.ts";
import { chatNow, forgetTold, queries, readAgain, takeChange } from "../src/server.ts";

const chat = (id: string, more: object = {}) =>
  ({
    id,
    title: id,
    pinned: false,
    archived: false,
    status: "waiting",
    snapshot_version: 1,
    created_at: "2026-01-01",
    ...more,
  }) as Chat;

/** The chats as the server has them, and the answers that are on their way: each of the moment at which it was asked for. */
let chats: Chat[];
let onTheirWay: { path: string; arrive: () => void }[];

beforeEach(() => {
  vi.useFakeTimers();
  chats = [chat("a"), chat("b")];
  onTheirWay = [];
  vi.stubGlobal("fetch", (path: string) => {
    const answer = JSON.stringify(answerOf(new URL(path, "http://test")));
    return new Promise((resolve) => onTheirWay.push({ path, arrive: () => resolve(new Response(answer)) }));
  });
});
afterEach(async () => {
  await act(() => vi.advanceTimersByTimeAsync(1000));
  await arrives();
  await act(() => vi.advanceTimersByTimeAsync(1000));
  queries.clear();
  forgetTold();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

function answerOf({ pathname, searchParams }: URL): unknown {
  const id = /chats\/(.+)/.exec(pathname)?.[1];
  if (id) return { ...chats.find((one) => one.id === id), workspace: null };
  const wanted = (one: Chat) =>
    one.archived === (searchParams.get("archived") === "true") &&
    (one.pinned || searchParams.get("pinned") !== "true") &&
    one.title.includes(searchParams.get("q") ?? "");
  return { chats: chats.filter(wanted), has_more: false };
}

/** The answers that are on their way arrive: those whose path has these words. */
async function arrives(words = ""): Promise<void> {
  const arriving = onTheirWay.filter(({ path }) => path.includes(words));
  onTheirWay = onTheirWay.filter((one) => !arriving.includes(one));
  await act(async () => {
    for (const { arrive } of arriving) arrive();
    await vi.advanceTimersByTimeAsync(0);
  });
}

/** It happens on the server, and is told. */
async function happens(change: string, what: Chat): Promise<void> {
  chats = chats.map((one) => (one.id === what.id ? what : one));
  await tell(change, what);
}

const tell = (change: string, what: Chat) =>
  act(async () => {
    takeChange({ change, chatId: what.id, chat: what, diff: null });
    await vi.advanceTimersByTimeAsync(0);
  });

/** Whatever is read again for it has been read. */
async function settles(): Promise<void> {
  for (let readings = 0; readings < 3; readings++) {
    await arrives();
    await act(() => vi.advanceTimersByTimeAsync(600));
  }
}

const show = () =>
  render(
    <QueryClientProvider client={queries}>
      <ChatList />
    </QueryClientProvider>,
  );
const titlesIn = (label: string) => {
  const list = screen.queryByRole("list", { name: label });
  return list
    ? within(list)
        .getAllByRole("link")
        .map(({ textContent }) => textContent)
    : [];
};
const RENAMED = chat("a", { title: "a renamed", snapshot_version: 2 });
const PINNED = chat("a", { pinned: true, snapshot_version: 2 });

describe("what is told of a chat while the lists are read", () => {
  test("for the first time is not undone by what was read: a title", async () => {
    show();
    await happens("title", RENAMED);
    await settles();
    expect(titlesIn("Chats")).toEqual(["a renamed", "b"]);
  });

  test("for the first time is not undone by what was read: that it is pinned", async () => {
    show();
    await happens("changed", PINNED);
    await settles();
    expect([titlesIn("Pinned chats"), titlesIn("Chats")]).toEqual([["a"], ["b"]]);
  });

  test("for the first time is not undone, where one has it open", async () => {
    queries.setQueryData(["chat", "a"], chat("a"));
    show();
    await happens("changed", PINNED);
    await settles();
    expect([titlesIn("Pinned chats"), titlesIn("Chats")]).toEqual([["a"], ["b"]]);
  });

  test("again is not undone either", async () => {
    show();
    await settles();
    act(() => void readAgain(["chats"]));
    await act(() => vi.advanceTimersByTimeAsync(0));
    await happens("status", chat("a", { status: "error", snapshot_version: 2 }));
    await arrives();
    expect(screen.getByRole("img", { name: "failed" })).toBeTruthy();
  });

  test("is shown of what is searched for", async () => {
    show();
    await settles();
    fireEvent.change(screen.getByRole("searchbox"), { target: { value: "a" } });
    await act(() => vi.advanceTimersByTimeAsync(0));
    expect(onTheirWay.map(({ path }) => path)).toEqual([expect.stringContaining("q=a")]);
    await happens("title", RENAMED);
    await settles();
    expect(titlesIn("Chats")).toEqual(["a renamed"]);
    await happens("title", chat("a", { title: "other", snapshot_version: 3 }));
    await settles();
    expect(titlesIn("Chats")).toEqual([]);
  });

  test("takes away what is deleted", async () => {
    show();
    await settles();
    act(() => void readAgain(["chats"]));
    await act(() => vi.advanceTimersByTimeAsync(0));
    await act(async () => takeChange({ change: "deleted", chatId: "a", chat: null, diff: null }));
    await arrives();
    expect(titlesIn("Chats")).toEqual(["b"]);
  });

  test("is asked for where the lists are of different moments", async () => {
    show();
    chats = [PINNED, chat("b")];
    await arrives("pinned=true"); // read before it was pinned
    onTheirWay = [];
    act(() => void readAgain(["chats", { q: "", archived: false }]));
    await act(() => vi.advanceTimersByTimeAsync(0));
    await arrives("archived=false"); // read after that
    expect([titlesIn("Pinned chats"), titlesIn("Chats")]).toEqual([[], ["b"]]);
    await tell("changed", PINNED);
    await settles();
    expect([titlesIn("Pinned chats"), titlesIn("Chats")]).toEqual([["a"], ["b"]]);
  });
});

test("what lists say of a chat is not all of it: it is read when it is opened, and brought up to date", async () => {
  await happens("title", RENAMED);
  const query = { queryKey: ["chat", "a"], queryFn: () => chatNow("a"), staleTime: 10_000 };
  const reading = queries.fetchQuery(query);
  const later = chat("a", { title: "a renamed again", snapshot_version: 3 });
  await happens("title", later);
  await arrives();
  expect(await reading).toEqual({ ...later, workspace: null });
  await happens("status", { ...later, snapshot_version: 4 });
  await queries.fetchQuery(query);
  expect(onTheirWay).toEqual([]);
});
