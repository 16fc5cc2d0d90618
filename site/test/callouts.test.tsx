import { act, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Callouts } from "../src/chat/Callouts.tsx";
import { type ChatView, EMPTY_VIEW, OpenChat } from "../src/client/index.ts";
import { Server } from "./server.ts";

const answering = (text: string, more: Partial<ChatView> = {}): ChatView => ({
  ...EMPTY_VIEW,
  status: "running",
  preview: [{ type: "text", text }],
  ...more,
});
const show = (view: ChatView) => <Callouts view={view} onTryAgain={() => {}} />;
const SILENT = /Nothing has come for a while/;

describe("an answer of which nothing comes", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());
  const pass = (ms: number) => act(() => vi.advanceTimersByTime(ms));

  test("is told after a while, until there is more", () => {
    const { rerender } = render(show(answering("one")));
    pass(7000);
    rerender(show(answering("one two")));
    pass(7000);
    expect(screen.queryByText(SILENT)).toBeNull();
    pass(2000);
    expect(screen.getByText(SILENT)).toBeTruthy();
    rerender(show(answering("one two three")));
    expect(screen.queryByText(SILENT)).toBeNull();
  });

  test.each<[string, ChatView]>([
    ["rests", answering("one", { status: "waiting" })],
    ["runs a tool", answering("", { preview: [{ type: "tool_call", id: "c", name: "t", arguments: "{}" }] })],
    ["thinks of its first word", answering("", { preview: [] })],
  ])("is not told of a chat that %s", (_, view) => {
    render(show(view));
    pass(60_000);
    expect(screen.queryByText(SILENT)).toBeNull();
  });
});

describe("a model that is waited for", () => {
  const call = { type: "tool_call", id: "c", name: "t", arguments: "{}" } as const;
  const result = { type: "tool_result", call_id: "c", content: "" } as const;
  const behind = (...all: { role: string; parts: readonly object[] }[]) =>
    answering("", { preview: [], messages: all.map((one, id) => ({ id, ...one })) as unknown as ChatView["messages"] });
  const asked = { role: "assistant", parts: [call] };

  test("thinks, unless the calls that it asked for are run: their cards say so", () => {
    const { rerender } = render(show(behind({ role: "user", parts: [] })));
    expect(screen.queryByText("Thinking …")).toBeTruthy();
    rerender(show(behind(asked)));
    expect(screen.queryByText("Thinking …")).toBeNull();
    rerender(show(behind(asked, { role: "tool", parts: [result] })));
    expect(screen.queryByText("Thinking …")).toBeTruthy();
  });
});

describe("an attempt that is waited for", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  test.each([
    ["is right", 0, "2"],
    ["is an hour behind", 3_600_000, "2"],
    ["is a second behind", 1000, "2"],
  ])("is counted down where the clock of this machine %s", (_, behindMs, seconds) => {
    const retrying_at = new Date(Date.now() + behindMs + 2000).toISOString();
    const retry = { attempt: 1, delay_ms: 2000, error: "x", kind: "x", retrying_at };
    render(show(answering("", { retry })));
    expect(screen.getByText(`Attempt 2 in ${seconds} s.`)).toBeTruthy();
    act(() => vi.advanceTimersByTime(2250));
    expect(screen.getByText("Attempt 2 begins.")).toBeTruthy();
  });
});

const takenOver = {
  type: "status",
  status: "running",
  archived: false,
  epoch: 2,
  worker_id: "w",
  cause: "takeover",
} as const;

test("who goes on with a chat is told at once, and words with the next frame", () => {
  const chat = new OpenChat(new Server().api, "a");
  chat.apply("1.1-0", { type: "ready" });
  chat.apply("1.1-1", { type: "part", attempt: 1, part: { type: "text", text: "one" } });
  expect(chat.view.get().preview).toEqual([]);
  chat.apply("1.1-2", takenOver);
  expect(chat.view.get()).toMatchObject({ handover: { workerId: "w" }, preview: [{ text: "one" }] });
});

test("a history that is told anew is not shown in halves for it", () => {
  const chat = new OpenChat(new Server().api, "a");
  chat.apply("1.1-0", { type: "ready" });
  chat.view.flush();
  chat.apply("1.1-1", { type: "history_reset" });
  chat.apply("1.1-2", takenOver);
  expect(chat.view.get()).toMatchObject({ ready: true, handover: null });
});
