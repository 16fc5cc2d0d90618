import { describe, expect, test } from "vitest";
import { attemptDone, attemptKey } from "../src/chat/drafts.ts";
import { type ApiError, OpenChat } from "../src/client/index.ts";
import { refused, Server } from "./server.ts";

const broken = () => new TypeError("reset");

describe("a write whose answer broke off", () => {
  test("about a chat is repeated once, under one key", async () => {
    const server = new Server();
    server.answers.set("POST /chats/a/messages", broken);
    await expect(new OpenChat(server.api, "a").send("hi")).rejects.toMatchObject({ code: "unreachable" });
    expect(server.calls).toHaveLength(2);
    expect(server.calls[0]?.key).toMatch(/^[0-9a-f]{32}$/);
    expect(server.calls[1]?.key).toBe(server.calls[0]?.key);
  });

  test.each(["/session", "/session/codes", "/tokens", "/admin/providers", "/chatsomething"])(
    "is not repeated where the server does not know it again: %s",
    async (path) => {
      const server = new Server();
      server.answers.set(`POST ${path}`, broken);
      await expect(server.api.post(path, {})).rejects.toMatchObject({ code: "unreachable" });
      expect(server.calls).toMatchObject([{ path, key: null }]);
    },
  );
});

test("a message that is sent again after an error has the key of the first try until it was taken", async () => {
  const server = new Server();
  const chat = new OpenChat(server.api, "a");
  const send = (text: string) => chat.send(text, "queue", undefined, attemptKey("a", { text }));
  server.answers.set("POST /chats/a/messages", () => refused(429, "rate_limited"));
  await expect(send("one")).rejects.toThrow();
  server.answers.set("POST /chats/a/messages", () => ({ chat: {} }));
  await send("one");
  attemptDone("a");
  await send("one");
  await send("two");
  const [first, again, later, other] = server.calls.map(({ key }) => key);
  expect(again).toBe(first);
  expect(new Set([first, later, other]).size).toBe(3);
});

test("each answer that says no is told to those who listen, until they stop", async () => {
  const server = new Server();
  const told: ApiError[] = [];
  const stop = server.api.onRefusal((error) => told.push(error));
  server.answers.set("PATCH /chats/a", () => refused(401, "invalid_session"));
  await expect(server.api.patch("/chats/a", {})).rejects.toThrow();
  stop();
  await expect(server.api.patch("/chats/a", {})).rejects.toThrow();
  expect(told.map(({ status }) => status)).toEqual([401]);
});
