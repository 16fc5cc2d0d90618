// @vitest-environment node
/** The client where there is no browser: in Node, against a server of HTTP. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Api, ApiError, OpenChat, Tab, textOf } from "../src/client/index.ts";

let server: Server;
let asked: { method: string; url: string; headers: IncomingMessage["headers"]; body: string }[];
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let api: Api;

beforeEach(async () => {
  asked = [];
  server = createServer((request, response) => {
    let body = "";
    request.on("data", (piece) => (body += piece));
    request.on("end", () => {
      const { method = "", url = "", headers } = request;
      asked.push({ method, url, headers, body });
      answer(request, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  api = new Api({ baseUrl, token: "ccl_x" });
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

const json = (response: ServerResponse, status: number, body: unknown) =>
  void response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));

test("there is nothing of a browser here", () => {
  expect([typeof document, typeof XMLHttpRequest, typeof requestAnimationFrame]).toEqual(Array(3).fill("undefined"));
});

test("a chat is followed, with a token, and what comes is told once a frame although there are none", async () => {
  const message = { id: 1, role: "user", parts: [{ type: "text", text: "hi" }], revision: 1, created_at: "" };
  const events: [string, object][] = [
    ["5~1.1-1", { type: "message", message }],
    ["5~1.1-2", { type: "part", attempt: 1, part: { type: "text", text: "one " } }],
    ["5~1.1-3", { type: "part", attempt: 1, part: { type: "text", text: "two" } }],
  ];
  answer = (_, response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    for (const [id, event] of events) response.write(`id: ${id}\ndata: ${JSON.stringify(event)}\n\n`);
  };
  const tab = new Tab({ api, onList: () => {}, onListReset: () => {} });
  const chat = new OpenChat(api, "a");
  const told = vi.fn();
  chat.view.subscribe(told);
  tab.show(chat);
  await vi.waitFor(() => expect(textOf(chat.view.get().preview)).toBe("one two"));
  expect(told.mock.calls.length).toBeLessThanOrEqual(events.length);
  expect(asked[0]).toMatchObject({ url: "/api/v1/watch?chat=a", headers: { authorization: "Bearer ccl_x" } });
  tab.close();
  await vi.waitFor(() => expect(tab.connection.get().state).toBe("idle"));
});

test("a file is sent", async () => {
  answer = (_, response) => json(response, 201, { id: "f", name: "a b.txt", media_type: "text/plain", size_bytes: 2 });
  expect((await api.upload(new Blob(["hi"]), "a b.txt")).id).toBe("f");
  expect(asked[0]).toMatchObject({ method: "POST", url: "/api/v1/files?name=a+b.txt", body: "hi" });
});

describe("what goes wrong", () => {
  test("is an ApiError with the server's code, and what it says besides", async () => {
    answer = (_, response) => json(response, 409, { error: { code: "chat_busy", message: "busy", limit: 5 } });
    const error = await api.post("/chats", {}).catch((problem: unknown) => problem);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ status: 409, code: "chat_busy", message: "busy", details: { limit: 5 } });
  });

  test("is unreachable where nobody listens", async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await expect(api.get("/me")).rejects.toMatchObject({ status: 0, code: "unreachable", isTransient: true });
  });

  test.each([
    ["a read", (signal: AbortSignal) => api.get("/me", {}, signal)],
    ["a write", (signal: AbortSignal) => api.patch("/chats/a", {}, signal)],
    ["a message, which is not sent again", (signal: AbortSignal) => api.post("/chats", {}, "key", signal)],
    ["a deletion", (signal: AbortSignal) => api.delete("/chats/a", signal)],
    ["a file", (signal: AbortSignal) => api.upload(new Blob(["x"]), "x", { signal })],
  ])("is what it was given up for: %s", async (_, send) => {
    const over = new AbortController();
    const reason = new Error("nobody waits any more");
    answer = () => over.abort(reason);
    await expect(send(over.signal)).rejects.toBe(reason);
    expect(asked).toHaveLength(1);
  });
});
