import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Api, type ApiError } from "../src/client/api.ts";
import { EventParser, type ServerEvent } from "../src/client/sse.ts";
import { follow, SILENCE_MS, type StreamState } from "../src/client/stream.ts";
import { applied, EMPTY_VIEW } from "../src/client/view.ts";
import type { ChatEvent } from "../src/client/wire.ts";
import { GOLDEN, opening, written } from "./golden.ts";

const encoder = new TextEncoder();
const encoded = ([id, event]: [string, ChatEvent]) =>
  `id: ${id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;

/** A response whose body is these pieces; then it breaks off, or stays open and silent. */
function response(pieces: string[], end: "break" | "stay" = "break"): Response {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const piece of pieces) controller.enqueue(encoder.encode(piece));
      if (end === "break") controller.close();
    },
  });
  return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
}

const refusal = (status: number, code: string, headers = {}) =>
  new Response(JSON.stringify({ error: { code, message: code } }), { status, headers });

type Answer = () => Response;

/** Follows a stream whose connections are answered in turn; the last answer is repeated. */
function following(...answers: Answer[]) {
  let view = EMPTY_VIEW;
  const states: StreamState[] = [];
  const cursors: (string | null)[] = [];
  const errors: (ApiError | null)[] = [];
  const over = new AbortController();
  const api = new Api({
    fetch: async (_, init) => {
      const cursor = new Headers(init?.headers).get("Last-Event-ID");
      cursors.push(cursor);
      const answer = answers[Math.min(cursors.length, answers.length) - 1] as Answer;
      return answer();
    },
  });
  const done = follow(
    {
      api,
      path: "/chats/x/stream",
      cursor: () => view.cursor,
      onCursorLost: () => {
        view = EMPTY_VIEW;
      },
      onEvent: (id, event) => {
        view = applied(view, id, event as ChatEvent);
      },
      onState: (state, error) => {
        states.push(state);
        errors.push(error);
      },
    },
    over.signal,
  );
  return { done, states, errors, cursors, view: () => view, end: () => over.abort() };
}

const forever: Answer = () => response([], "stay");

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("a stream that breaks", () => {
  test.each(GOLDEN)("$name: broken in the middle of each event, it ends in the same view", async ({ events, view }) => {
    for (let at = 0; at < events.length; at++) {
      const before = events.slice(0, at);
      const cut = encoded(events[at] as [string, ChatEvent]);
      const rest = [...(at ? opening(before) : []), ...events.slice(at)].map(encoded);
      const stream = following(
        () => response([...before.map(encoded), cut.slice(0, cut.length / 2)]),
        () => response(rest, "stay"),
      );
      await vi.advanceTimersByTimeAsync(1000);
      expect(written(stream.view()), `broken in event ${at}`).toEqual(view);
      expect(stream.cursors[1]).toBe(at ? before.at(-1)?.[0] : null);
      stream.end();
      await stream.done;
    }
  });

  test("is opened again at once, then with growing pauses, and says so", async () => {
    const stream = following(
      () => response([]),
      () => refusal(503, "store_unavailable"),
      forever,
    );
    await vi.advanceTimersByTimeAsync(2000);
    expect(stream.states).toEqual(["connecting", "live", "reconnecting", "reconnecting", "live"]);
    stream.end();
    await stream.done;
  });

  test("waits as long as the server says", async () => {
    const stream = following(() => refusal(429, "too_many", { "Retry-After": "7" }), forever);
    await vi.advanceTimersByTimeAsync(6900);
    expect(stream.cursors).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(200);
    expect(stream.cursors).toHaveLength(2);
    stream.end();
    await stream.done;
  });

  test("is given up as broken after 45 s of silence, but not while heartbeats come", async () => {
    const beating = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const seconds of [15, 30, 45, 60])
          setTimeout(() => controller.enqueue(encoder.encode(": \n\n")), seconds * 1000);
      },
    });
    const headers = { "Content-Type": "text/event-stream" };
    const stream = following(() => new Response(beating, { headers }), forever);
    await vi.advanceTimersByTimeAsync(60_000 + SILENCE_MS - 100);
    expect(stream.cursors).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1000);
    expect(stream.cursors).toHaveLength(2);
    stream.end();
    await stream.done;
  });
});

/** How many connections are tried within a minute in which each is answered so. */
async function triesInAMinute(answer: Answer): Promise<number> {
  const stream = following(answer);
  await vi.advanceTimersByTimeAsync(60_000);
  stream.end();
  await stream.done;
  return stream.cursors.length;
}

describe("a server that is no good for now is not asked all the time", () => {
  const bodies: [string, Answer][] = [
    ["closes each connection at once", () => response([])],
    ["breaks off in an event", () => response(["id: 1\ndata: {"])],
    ["sends what is no JSON", () => response(["id: 1\ndata: {\n\n"])],
    ["sends no object", () => response(["id: 1\ndata: null\n\n"])],
    ["is a network's sign-in page", () => new Response("<html>", { headers: { "Content-Type": "text/html" } })],
    ["says to come back at once", () => refusal(503, "no", { "Retry-After": "0" })],
    ["says to have come back", () => refusal(503, "no", { "Retry-After": "-1" })],
    ["says to come back in a thousand years", () => refusal(503, "no", { "Retry-After": "31536000000" })],
  ];
  test.each(bodies)("one that %s", async (_, answer) => {
    const tries = await triesInAMinute(answer);
    expect(tries).toBeLessThan(16);
    expect(tries).toBeGreaterThan(0);
  });

  test("and what it says for hours is asked for again within two minutes", async () => {
    const stream = following(() => refusal(503, "no", { "Retry-After": "7200" }), forever);
    await vi.advanceTimersByTimeAsync(61_000);
    expect(stream.cursors).toHaveLength(2);
    stream.end();
    await stream.done;
  });

  test.each([408, 425, 500, 502, 503, 504, 520, 521, 522, 524, 530])(
    "and after %d, which servers and proxies answer while they are away, it is asked again",
    async (status) => {
      const stream = following(() => new Response("<html>", { status }), forever);
      await vi.advanceTimersByTimeAsync(2000);
      expect(stream.states).toEqual(["connecting", "reconnecting", "live"]);
      stream.end();
      await stream.done;
    },
  );
});

describe("a stream that is refused", () => {
  test.each([401, 403, 404])("with %d is over", async (status) => {
    const stream = following(() => refusal(status, "no"));
    await stream.done;
    expect(stream.states).toEqual(["connecting", "refused"]);
    expect(stream.errors.at(-1)?.status).toBe(status);
  });

  test("for its cursor begins anew without one", async () => {
    const stream = following(
      () => response([encoded(["1.1-1", { type: "title", title: "A" }])]),
      () => refusal(400, "invalid_cursor"),
      forever,
    );
    await vi.advanceTimersByTimeAsync(1000);
    expect(stream.cursors).toEqual([null, "1.1-1", null]);
    stream.end();
    await stream.done;
  });
});

describe("server-sent events", () => {
  const parsed = (...pieces: string[]) => {
    const events: ServerEvent[] = [];
    const parser = new EventParser((event) => events.push(event));
    for (const piece of pieces) parser.push(piece);
    return events;
  };
  const text = "id: 1\r\nevent: part\r\ndata: a\r\ndata: b\r\n\r\n: beat\n\nid: 2\ndata:c\n\n";

  test("come out the same however the pieces are cut", () => {
    const whole = parsed(text);
    expect(whole).toEqual([
      { id: "1", type: "part", data: "a\nb" },
      { id: "2", type: "message", data: "c" },
    ]);
    for (let at = 0; at <= text.length; at++) expect(parsed(text.slice(0, at), text.slice(at))).toEqual(whole);
    expect(parsed(...text)).toEqual(whole);
  });

  test("have lines without a colon and fields of others, which are nothing", () => {
    expect(parsed("data\nretry: 5\nwhat: x\nid\ndata: a\n\n")).toEqual([{ id: "", type: "message", data: "\na" }]);
  });

  test("that did not come whole are not told", () => {
    expect(parsed("id: 1\ndata: a\n")).toEqual([]);
  });
});
