import { describe, expect, test } from "vitest";
import { ApiError, OpenChat, type Page, Tab } from "../src/client/index.ts";
import { FAMILIES, openingOfFamily, type Told, written } from "./golden.ts";
import { refused, Server, settled } from "./server.ts";

const said = (id: number, text: string, role = "user") => ({
  id,
  role,
  parts: [{ type: "text", text }],
  revision: id,
  created_at: "2026-01-01T00:00:00Z",
});
const queued = (id: number) => ({ id, parts: [{ type: "text", text: "later" }], created_at: "2026-01-01T00:00:00Z" });
const page = (ids: number[], queue: number[], cursor = "1.1-1", has_more = false) =>
  ({ messages: ids.map((id) => said(id, String(id))), queue: queue.map(queued), cursor, has_more }) as unknown as Page;
const status = { type: "status", status: "running", archived: false, epoch: 1, worker_id: "w" };

function opened() {
  const server = new Server();
  const changes: string[] = [];
  let resets = 0;
  const tab = new Tab({
    api: server.api,
    onList: ({ change, chatId }) => changes.push(`${change} ${chatId}`),
    onListReset: () => resets++,
  });
  return { server, tab, changes, resets: () => resets };
}

const queueOf = (chat: OpenChat) => chat.view.now.queue.map(({ id }) => id);
const idsOf = (chat: OpenChat) => chat.view.now.messages.map(({ id }) => id);

describe("a chat that is opened with a cached page", () => {
  test("whose queue is stale is corrected by the refetch, as long as the stream has not told the queue", async () => {
    const { server, tab } = opened();
    const chat = new OpenChat(server.api, "a");
    chat.hydrate(page([1], [7, 8]));
    tab.show(chat);
    await settled();
    server.stream.send("5~1.1-1", status);
    await settled();
    chat.hydrate(page([1], [8]));
    expect(queueOf(chat)).toEqual([8]);
    tab.close();
  });

  test("is changed by no refetch once the stream has told the queue", async () => {
    const { server, tab } = opened();
    const chat = new OpenChat(server.api, "a");
    chat.hydrate(page([1], [7]));
    tab.show(chat);
    await settled();
    server.stream.send("5~1.1-1", status);
    server.stream.send("5~2.1-1", { type: "queue", queue: [queued(9)] });
    await settled();
    chat.hydrate(page([1], [7, 8]));
    expect(queueOf(chat)).toEqual([9]);
    tab.close();
  });
});

describe("another chat", () => {
  test("begins with nothing of the one before: not its messages, its queue, nor what its stream still says", async () => {
    const { server, tab } = opened();
    const [first, second] = [new OpenChat(server.api, "a"), new OpenChat(server.api, "b")];
    first.hydrate(page([1], [7], "1.1-1"));
    tab.show(first);
    await settled();
    const before = server.stream;
    before.send("5~2.1-3", { type: "part", attempt: 1, part: { type: "text", text: "of a" } });
    await settled();
    tab.show(second);
    second.hydrate(page([2], [], "9.1-1"));
    before.send("6~3.1-1", { type: "queue", queue: [queued(8)] });
    await settled();
    expect([idsOf(second), queueOf(second), second.view.now.preview]).toEqual([[2], [], []]);
    expect(queueOf(first)).toEqual([7]);
    expect(before.signal.aborted).toBe(true);
    tab.close();
  });

  test("is followed from its own cursor, and the list from where it was", async () => {
    const { server, tab } = opened();
    const [first, second] = [new OpenChat(server.api, "a"), new OpenChat(server.api, "b")];
    first.hydrate(page([1], [], "1.1-1"));
    tab.show(first);
    await settled();
    expect(server.stream).toMatchObject({ path: "/watch?chat=a", cursor: "~1.1-1" });
    server.stream.send("77~2.1-4", status);
    await settled();
    second.hydrate(page([2], [], "9.1-1"));
    tab.show(second);
    await settled();
    expect(server.stream).toMatchObject({ path: "/watch?chat=b", cursor: "77~9.1-1" });
    tab.close();
  });
});

describe("the tab's one stream", () => {
  test("tells changes of the list apart from events of the chat", async () => {
    const { server, tab, changes, resets } = opened();
    const chat = new OpenChat(server.api, "a");
    tab.show(chat);
    await settled();
    server.stream.send("5~1.1-1", status);
    server.stream.send("6~1.1-1", { type: "chat", change: "title", chat_id: "b", chat: { id: "b" } });
    server.stream.send("7~1.1-1", { type: "chat", change: "deleted", chat_id: "c" });
    await settled();
    expect(changes).toEqual(["title b", "deleted c"]);
    const before = resets();
    server.stream.send("8~1.1-1", { type: "list_reset" });
    await settled();
    expect(resets()).toBe(before + 1);
    tab.close();
  });

  test("is left while it is paused, and goes on at its cursor", async () => {
    const { server, tab } = opened();
    const chat = new OpenChat(server.api, "a");
    tab.show(chat);
    await settled();
    server.stream.send("5~1.1-1", status);
    await settled();
    tab.pause();
    await settled();
    expect(server.stream.signal.aborted).toBe(true);
    expect(tab.connection.get().state).toBe("idle");
    tab.resume();
    await settled();
    expect(server.streams).toHaveLength(2);
    expect(server.stream.cursor).toBe("5~1.1-1");
    tab.close();
  });
});

describe("earlier messages", () => {
  test("are asked for once at a time, and put in order before the others", async () => {
    const { server } = opened();
    const chat = new OpenChat(server.api, "a");
    chat.hydrate(page([5, 6], [], "1.1-1", true));
    const earlier = { ...page([4, 3], []), cursor: null, has_more: false };
    server.answers.set("GET /chats/a/messages?before=5&limit=50", () => earlier);
    await Promise.all([chat.loadEarlier(), chat.loadEarlier()]);
    expect(idsOf(chat)).toEqual([3, 4, 5, 6]);
    expect(chat.view.now.isTruncated).toBe(false);
    expect(server.calls).toHaveLength(1);
  });
});

describe("a message that is sent", () => {
  test("is repeated under the same key when its connection broke: it is not said twice", async () => {
    const { server } = opened();
    let tries = 0;
    server.answers.set("POST /chats/a/messages", () => (tries++ ? { chat: { id: "a" } } : new TypeError("broken")));
    await new OpenChat(server.api, "a").send("hi", "interrupt");
    expect(server.calls).toHaveLength(2);
    expect(server.calls[0]?.key).toBeTruthy();
    expect(server.calls[0]?.key).toBe(server.calls[1]?.key);
    expect(server.calls[0]?.body).toEqual({ content: "hi", busy: "interrupt" });
  });

  test("is not repeated when it was refused", async () => {
    const { server } = opened();
    server.answers.set("POST /chats/a/messages", () => refused(409, "queue_full"));
    await expect(new OpenChat(server.api, "a").send("hi")).rejects.toMatchObject({ code: "queue_full", status: 409 });
    expect(server.calls).toHaveLength(1);
  });
});

describe("the stream of a tab", () => {
  test("that was refused is opened anew when something is shown, be it the same", async () => {
    const { server, tab } = opened();
    const open = server.api.open.bind(server.api);
    server.api.open = async () => {
      throw new ApiError(401, "invalid_session", "over");
    };
    tab.show(null);
    await settled();
    expect(tab.connection.now.state).toBe("refused");
    server.api.open = open;
    tab.show(null);
    await settled();
    expect(server.streams).toHaveLength(1);
    tab.close();
  });

  test("is not opened by a chat that is left when nothing is followed any more", async () => {
    const { server, tab } = opened();
    tab.show(new OpenChat(server.api, "a"));
    await settled();
    tab.close();
    tab.leave();
    await settled();
    expect(server.streams).toHaveLength(1);
    expect(tab.connection.now.state).toBe("idle");
  });
});

describe("a chat and its agents in one stream, shared with the Python client", () => {
  const told = (events: Told[], chat = new OpenChat(new Server().api, "c")) => {
    for (const [cursor, event] of events) chat.apply(cursor, event);
    return chat;
  };
  const views = (chat: OpenChat) => {
    const { cursor: _, ...own } = written(chat.view.now);
    return { "": own, ...Object.fromEntries([...chat.agents.now].map(([id, view]) => [id, written(view)])) };
  };

  test.each(FAMILIES)("$name: $promise", ({ events, views: wanted }) => {
    expect(views(told(events))).toEqual(wanted);
    for (let at = 1; at < events.length; at++) {
      const before = events.slice(0, at);
      const resumed = told([...openingOfFamily(before), ...events.slice(at)], told(before));
      expect(views(resumed), `cut after event ${at}`).toEqual(wanted);
    }
  });
});
