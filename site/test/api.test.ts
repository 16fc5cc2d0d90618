import { describe, expect, test } from "vitest";
import { attemptDone, attemptKey } from "../src/chat/drafts.ts";
import { ApiError, JsonText, OpenChat } from "../src/client/index.ts";
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

describe("an answer that is none", () => {
  const cut = () => {
    const body = new ReadableStream({ start: (controller) => controller.error(new TypeError("reset")) });
    return new Response(body);
  };

  test.each<[string, () => unknown]>([
    ["that breaks off", cut],
    ["of something else than a cluster", () => new Response("<html>sign in to the network</html>")],
    ["that is cut", () => new Response('{"chats": [')],
  ])("%s is told in words, as a server that cannot be reached", async (_, answer) => {
    const server = new Server();
    server.answers.set("GET /chats", answer);
    const error = await server.api.get("/chats").catch((problem: unknown) => problem as ApiError);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ code: "unreachable", isTransient: true });
    expect((error as ApiError).message).toMatch(/^(The server cannot|Something else)/);
  });

  test.each(['{"error":"no"}', '{"error":null}', '{"error":[1]}', '{"error":{"message":{"a":1}}}', "null", '"x"', ""])(
    "with %s for a refusal has words all the same",
    async (body) => {
      const server = new Server();
      server.answers.set("GET /chats", () => new Response(body, { status: 403 }));
      await expect(server.api.get("/chats")).rejects.toMatchObject({
        status: 403,
        code: "http_error",
        message: "The server answered 403.",
      });
    },
  );

  test("is what one gets who gave up, as one gave it up", async () => {
    const over = new AbortController();
    const server = new Server();
    server.answers.set("GET /chats", () => {
      over.abort(new Error("enough"));
      return cut();
    });
    await expect(server.api.get("/chats", {}, over.signal)).rejects.not.toBeInstanceOf(ApiError);
  });
});

test("a body that is JSON already goes as it is", async () => {
  const server = new Server();
  server.answers.set("POST /chats/a/x", () => ({}));
  await server.api.post("/chats/a/x", new JsonText('{"id":1234567890123456789}'));
  expect(server.bodies).toEqual(['{"id":1234567890123456789}']);
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
