import { render, screen } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import AgentCall from "../src/chat/AgentCall.tsx";
import { agentWords, Family, fieldsIn } from "../src/chat/family.ts";
import { type ChatEvent, EMPTY_VIEW, OpenChat, type Page, Tab } from "../src/client/index.ts";
import { Server, settled } from "./server.ts";

const AGENT = "0198c7e2-0000-7000-8000-000000000001";
const status = (value: string, more = {}) =>
  ({ type: "status", status: value, archived: false, epoch: 1, worker_id: "w", ...more }) as unknown as ChatEvent;
const ofAgent = (event: ChatEvent) => ({ ...event, chat_id: AGENT });
const spawn = { type: "tool_call", id: "c1", name: "spawn_agent", arguments: '{"prompt": "Count"}' };
const withSpawn = {
  messages: [{ id: 1, role: "assistant", parts: [spawn], revision: 1, created_at: "2026-01-01T00:00:00Z" }],
  queue: [],
  cursor: "1.1-1",
  has_more: false,
} as unknown as Page;

function opened() {
  const server = new Server();
  const tab = new Tab({ api: server.api, onList: () => {}, onListReset: () => {} });
  return { server, tab, chat: new OpenChat(server.api, "a") };
}

describe("a chat that has agents", () => {
  test("is followed with its family from the first call for one on, at the same place", async () => {
    const { server, tab, chat } = opened();
    tab.show(chat);
    await settled();
    expect(server.stream.path).toBe("/watch?chat=a");
    server.stream.send("5~2.1-1", { type: "part", attempt: 1, part: spawn });
    await settled();
    expect(server.stream).toMatchObject({ path: "/watch?chat=a&family=true", cursor: "5~2.1-1" });
    expect(server.streams).toHaveLength(2);
    tab.close();
  });

  test("is so at once where its history has one", async () => {
    const { server, tab, chat } = opened();
    chat.hydrate(withSpawn);
    tab.show(chat);
    await settled();
    expect(server.stream).toMatchObject({ path: "/watch?chat=a&family=true", cursor: "~1.1-1" });
    tab.close();
  });

  test("keeps what each of them says apart from what it says itself, and resumes at the place of all", async () => {
    const { server, tab, chat } = opened();
    chat.hydrate(withSpawn);
    tab.show(chat);
    await settled();
    server.stream.send("5~1.1-1", { ...status("running") });
    server.stream.send(`5~1.1-1~0198c7e20000:1.1-1`, { chat_id: AGENT, ...status("running") });
    const part = { type: "part", attempt: 1, part: { type: "text", text: "one" } };
    server.stream.send(`5~1.1-1~0198c7e20000:1.1-2`, { chat_id: AGENT, ...part });
    await settled();
    expect(chat.agents.now.get(AGENT)?.preview).toEqual([{ type: "text", text: "one" }]);
    expect(chat.view.now).toMatchObject({ status: "running", preview: [] });
    tab.restart();
    await settled();
    expect(server.stream.cursor).toBe("5~1.1-1~0198c7e20000:1.1-2");
    tab.close();
  });

  test("that the server tells anew begins without what its agents said", () => {
    const { chat } = opened();
    chat.apply("1.1-1", ofAgent(status("running")));
    chat.forget();
    expect([chat.cursor, chat.agents.now.size]).toEqual(["", 0]);
  });

  test("changes of the list name chats, and are none of an agent", async () => {
    const { server, tab, chat } = opened();
    tab.show(chat);
    await settled();
    server.stream.send("6~1.1-1", { type: "chat", change: "title", chat_id: "b", chat: { id: "b" } });
    await settled();
    expect(chat.agents.now.size).toBe(0);
    tab.close();
  });
});

describe("how an agent is", () => {
  const view = (value: string, more = {}) => ({ ...EMPTY_VIEW, status: value as "waiting", ...more });
  const turn = { message_id: 1, outcome: "interrupted", duration_ms: 1 };
  test.each([
    [null, "begins"],
    [view("running"), "at work"],
    [view("requires_action"), "waits for you"],
    [view("waiting"), "done"],
    [view("waiting", { turn }), "stopped"],
    [view("error"), "failed"],
    [view("waiting", { archived: true }), "closed"],
  ])("is said in words", (shown, words) => expect(agentWords(shown).words).toBe(words));
});

describe("what a call for agents was answered", () => {
  test.each(["", "{", "null", "[]", '"text"', '{"chat_id": 1}', '{"chat_id": "../../me"}'])("%s names none", (text) =>
    expect(fieldsIn(text).chat_id).toBeNull(),
  );

  test("names an agent by its ID", () =>
    expect(fieldsIn(`{"chat_id": "${AGENT}", "title": "Count"}`)).toMatchObject({ chat_id: AGENT, title: "Count" }));
});

test("an agent is shown with what it says, open while it works", async () => {
  const { chat } = opened();
  for (const event of [
    status("running"),
    { type: "part", attempt: 1, part: { type: "text", text: "counting sheep" } },
  ] as ChatEvent[])
    chat.apply("1.1-1", ofAgent(event));
  chat.agents.flush();
  const content = JSON.stringify({ chat_id: AGENT, title: "<b>Counter</b>", status: "running" });
  const answered = { result: { type: "tool_result", call_id: "c1", content } as const, at: null };
  const call = { ...spawn, type: "tool_call" } as const;
  render(
    <Family value={chat}>
      <AgentCall call={call} answered={answered} />
    </Family>,
  );
  const card = screen.getByRole("button", { name: /Agent: <b>Counter<\/b> *at work/ });
  expect(card.getAttribute("aria-expanded")).toBe("true");
  expect(screen.getByRole("region").textContent).toContain("counting sheep");
  expect(screen.getByRole("button", { name: "Stop <b>Counter</b>" })).toBeTruthy();
  chat.apply("1.1-2", ofAgent(status("waiting")));
  chat.agents.flush();
  await settled();
  expect(card.getAttribute("aria-expanded")).toBe("false");
});
