/** The service worker, in the place of a browser: which pages it knows, and subscriptions that a browser makes anew. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test, vi } from "vitest";

const WORKER = readFileSync(join(import.meta.dirname, "../public/sw.js"), "utf8");
const CHAT = "/chats/0198c7e2-0000-7000-8000-000000000001";
const OLD = { endpoint: "https://push.example/old", options: { userVisibleOnly: true } };
const NEW = {
  endpoint: "https://push.example/new",
  toJSON: () => ({ endpoint: "https://push.example/new", keys: {} }),
};

type Page = { url: string; visibilityState: string; isControlled: boolean; focus: () => void };

let pages: Page[];
let known: { endpoint: string }[] | null;
const shown = vi.fn(async (_title: string) => {});
const opened = vi.fn(async () => {});
const subscribe = vi.fn(async () => NEW);
const posted: string[] = [];
let tell: (type: string, event: object) => Promise<void>;
/** What the browser does before it says which pages are open. */
let looks: (() => Promise<void>)[];

beforeEach(() => {
  vi.clearAllMocks();
  posted.length = 0;
  pages = [];
  known = [];
  looks = [];
  const listeners = new Map<string, (event: object) => void>();
  const self = {
    addEventListener: (type: string, listener: (event: object) => void) => listeners.set(type, listener),
    skipWaiting: () => {},
    clients: {
      claim: async () => {},
      matchAll: async ({ includeUncontrolled = false }) => {
        await looks.shift()?.();
        return pages.filter((page) => includeUncontrolled || page.isControlled);
      },
      openWindow: opened,
    },
    registration: { showNotification: shown, pushManager: { subscribe } },
  };
  const server = async (_: string, init?: RequestInit) => {
    if (init) posted.push(String(init.body));
    return new Response(JSON.stringify({ subscriptions: known }), { status: known ? 200 : 401 });
  };
  new Function("self", "fetch", WORKER)(self, server);
  tell = async (type, event) => {
    let done: Promise<void> | undefined;
    listeners.get(type)?.({ ...event, waitUntil: (promise: Promise<void>) => (done = promise) });
    await done;
  };
});

const push = (path: string, title = "t") =>
  tell("push", { data: { json: () => ({ title, body: "b", path, tag: "x" }) } });
const page = (path: string, isControlled: boolean): Page => ({
  url: `https://chat.example${path}`,
  visibilityState: "visible",
  isControlled,
  focus: vi.fn(),
});

describe("of two about one chat", () => {
  test("the later one stays, though it is the quicker", async () => {
    let answer = () => {};
    looks = [() => new Promise((resolve) => (answer = resolve))];
    const both = [push(CHAT, "first"), push(CHAT, "second")];
    await new Promise((resolve) => setTimeout(resolve));
    answer();
    await Promise.all(both);
    expect(shown.mock.calls.map(([title]) => title)).toEqual(["first", "second"]);
  });

  test("it is shown, though the browser failed at the first", async () => {
    looks = [() => Promise.reject(new Error("no pages"))];
    await expect(push(CHAT, "first")).rejects.toThrow("no pages");
    await push(CHAT, "second");
    expect(shown.mock.calls.map(([title]) => title)).toEqual(["second"]);
  });
});

describe("a page that was loaded past the worker", () => {
  test("is one at which its chat is seen", async () => {
    pages = [page(CHAT, false)];
    await push(CHAT);
    expect(shown).not.toHaveBeenCalled();
    await push("/");
    expect(shown).toHaveBeenCalledOnce();
  });

  test("is gone to at a press, rather than that another one is opened", async () => {
    pages = [page(CHAT, false)];
    await tell("notificationclick", { notification: { close: () => {}, data: { path: CHAT } } });
    expect(pages[0]?.focus).toHaveBeenCalledOnce();
    expect(opened).not.toHaveBeenCalled();
  });
});

describe("a subscription that the browser makes anew", () => {
  test("is told to the cluster, which had the old one", async () => {
    known = [OLD];
    await tell("pushsubscriptionchange", { oldSubscription: OLD, newSubscription: NEW });
    expect(posted).toEqual([JSON.stringify(NEW)]);
    expect(subscribe).not.toHaveBeenCalled();
  });

  test("or has ended, and is made again", async () => {
    known = [OLD];
    await tell("pushsubscriptionchange", { oldSubscription: OLD, newSubscription: null });
    expect(subscribe).toHaveBeenCalledExactlyOnceWith(OLD.options);
    expect(posted).toEqual([JSON.stringify(NEW)]);
  });

  test.each([
    ["of somebody else than who is signed in", [{ endpoint: "https://push.example/hers" }], OLD],
    ["while nobody is signed in", null, OLD],
    ["of which the browser does not say which it was", [OLD], null],
  ])("%s is told to nobody", async (_, subscriptions, oldSubscription) => {
    known = subscriptions;
    await tell("pushsubscriptionchange", { oldSubscription, newSubscription: NEW });
    expect(posted).toEqual([]);
  });
});
