/**
 * The service worker in a browser: it shows what is sent, and opens the chat that it is about. What is sent comes by the
 * browser's own tools here, in the place of a push service; a press is one with the pointer, on a screen of its own.
 */

import type { CDPSession, Page, Worker } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Display, missingPrograms, pressNotification, startDisplay } from "./display.ts";
import { atRest, cluster, composer, newChat, open, until } from "./page.ts";

type Shown = { title: string; body: string; tag: string; path: string };

/** A page with its worker, and how to send that something. */
type Receiver = {
  page: Page;
  send: (data: string) => Promise<void>;
  /** Send it, and wait until something is shown, or there is no need for that any more. */
  show: (data: string, isNeedless?: () => boolean) => Promise<void>;
};

/** A page with the worker, registered as the page itself does. */
async function withWorker(path = "/", display = ""): Promise<Receiver> {
  const page = await open(path, { display });
  await page.context().grantPermissions(["notifications"], { origin: cluster.url });
  await composer(page).waitFor();
  const devtools = await page.context().newCDPSession(page);
  const id = registrationId(devtools);
  await devtools.send("ServiceWorker.enable");
  await page.evaluate(async () => {
    type Policy = { createScriptURL: (url: string) => string };
    const types = (window as unknown as { trustedTypes: { createPolicy: (name: string, rules: Policy) => Policy } })
      .trustedTypes;
    const policy = types.createPolicy("test", { createScriptURL: (url) => url });
    await navigator.serviceWorker.register(policy.createScriptURL("/sw.js"));
    // It is ready when it begins to be activated; what is sent before that has ended may be dropped.
    const { active } = await navigator.serviceWorker.ready;
    while (active?.state !== "activated") {
      await new Promise((resolve) => active?.addEventListener("statechange", resolve, { once: true }));
    }
  });
  const registered = await id;
  const worker = page.context().serviceWorkers()[0] ?? (await page.context().waitForEvent("serviceworker"));
  await countShown(worker);
  const send = async (data: string) => {
    await devtools.send("ServiceWorker.deliverPushMessage", { origin: cluster.url, registrationId: registered, data });
  };
  const show = async (data: string, isNeedless = () => false) => {
    const before = await shownCount(worker);
    await send(data);
    await until("something is shown", async () => isNeedless() || (await shownCount(worker)) > before);
  };
  return { page, send, show };
}

type Counting = { registration: { showNotification: (...asked: unknown[]) => Promise<void> }; shownCount: number };

/**
 * Have the worker count what it has shown. Whoever waits for it waits for that: where notifications are read while one is on
 * its way to the screen, Chromium takes that one for gone, and forgets it.
 */
const countShown = (worker: Worker) =>
  worker.evaluate(() => {
    const scope = globalThis as unknown as Counting;
    const show = scope.registration.showNotification.bind(scope.registration);
    scope.shownCount = 0;
    scope.registration.showNotification = async (...asked) => {
      await show(...asked);
      scope.shownCount += 1;
    };
  });

const shownCount = (worker: Worker) => worker.evaluate(() => (globalThis as unknown as Counting).shownCount);

const registrationId = (devtools: CDPSession) =>
  new Promise<string>((resolve) =>
    devtools.on("ServiceWorker.workerRegistrationUpdated", ({ registrations }) => {
      const ours = registrations.find(({ isDeleted, scopeURL }) => !isDeleted && scopeURL === `${cluster.url}/`);
      if (ours) resolve(ours.registrationId);
    }),
  );

const shown = (page: Page) =>
  page.evaluate(async () => {
    const there = await (await navigator.serviceWorker.ready).getNotifications();
    return there.map(({ title, body, tag, data }) => ({ title, body, tag, path: data?.path }) as Shown);
  });

const closeAll = (page: Page) =>
  page.evaluate(async () => {
    for (const note of await (await navigator.serviceWorker.ready).getNotifications()) note.close();
  });

/** The addresses of the pages that are open for the worker. */
const pagesOfWorker = async (page: Page): Promise<string[]> => {
  const [worker] = page.context().serviceWorkers();
  if (!worker) throw new Error("the worker does not run");
  return worker.evaluate(async () => {
    type Pages = { matchAll: (options: object) => Promise<{ url: string }[]> };
    const { clients } = globalThis as unknown as { clients: Pages };
    return (await clients.matchAll({ type: "window", includeUncontrolled: true })).map(({ url }) => url);
  });
};

const said = (path: string, title = "A title") => JSON.stringify({ title, body: "The answer", path, tag: path });
const HOSTILE = [
  {
    title: "<img src=x onerror=window.hit=1>\u202Egnp",
    body: "<script>window.hit=1</script>".repeat(50),
    path: "javascript:window.hit=1",
    tag: "javascript:window.hit=1",
  },
  { title: "x".repeat(2000), body: "\u0000\n\u202E", path: "//evil.example/", tag: "\u202E</script>".repeat(99) },
];
const ID = "0198c7e2-0000-7000-8000-000000000001";

test("what is sent is shown, once for each chat, and nothing else is asked for or kept", async () => {
  const { page, show } = await withWorker();
  const asked: string[] = [];
  page.context().on("request", (request) => asked.push(request.url()));
  await show(said(`/chats/${ID}`));
  expect((await shown(page)).map(({ title }) => title)).toEqual(["A title"]);
  await show(said(`/chats/${ID}`, "<b>Another</b> title"));
  expect(await shown(page)).toEqual([
    { title: "<b>Another</b> title", body: "The answer", tag: `/chats/${ID}`, path: `/chats/${ID}` },
  ]);
  expect(asked.filter((url) => !url.startsWith(cluster.url))).toEqual([]);
  expect(await page.evaluate(() => caches.keys())).toEqual([]);
});

test("what is no JSON, or leads elsewhere, opens the start at most", async () => {
  // Nobody looks at the start, of which nothing would be shown then.
  const { page, show } = await withWorker(`/chats/${(await newChat("[[say=begin]]")).id}`);
  for (const [data, wanted] of [
    ["{", { title: "chatcluster", body: "There is something new.", path: "/" }],
    [said("https://evil.example/"), { title: "A title", path: "/" }],
    [said("/oauth/callback?x=1"), { path: "/" }],
  ] as const) {
    await show(data);
    expect(await shown(page)).toMatchObject([wanted]);
    await closeAll(page);
    await until("it is closed", async () => (await shown(page)).length === 0);
  }
});

test("nothing is shown of the chat that one looks at", async () => {
  const { id } = await newChat("[[say=begin]]");
  await atRest(id);
  const { page, send, show } = await withWorker(`/chats/${id}`);
  await send(said(`/chats/${id}`, "Of this chat"));
  await show(said(`/chats/${ID}`, "Of another"));
  expect((await shown(page)).map(({ title }) => title)).toEqual(["Of another"]);
});

const missing = missingPrograms();
if (missing.length) console.log(`Not tried: a press on a notification. Not installed: ${missing.join(", ")}`);

describe.skipIf(missing.length)("a press on a notification, with the pointer, on a screen", () => {
  let display: Display;
  beforeAll(async () => {
    display = await startDisplay();
  });
  afterAll(() => display.close());

  test("closes it and opens its chat; one that is hostile is shown as words, and opens the start", async () => {
    const { page, show } = await withWorker(`/chats/${(await newChat("[[say=begin]]")).id}`, display.name);
    const context = page.context();
    const asked: string[] = [];
    context.on("request", (request) => asked.push(request.url()));
    const sendAndPress = async (data: string, opens: string) => {
      const { title } = JSON.parse(data);
      let note = undefined as Shown | undefined;
      await until("it is there once it was shown", async () => {
        await show(data);
        note = (await shown(page)).find((note) => note.title === title);
        return note; // it goes away by itself, perhaps before that is read
      });
      let opened = undefined as Page | undefined;
      let isSentAgain = false;
      context.once("page", (page) => {
        opened = page;
      });
      await pressNotification(
        display,
        () => opened !== undefined,
        async () => {
          await closeAll(page); // what takes the place of one that is there is not put on the screen again
          isSentAgain = true;
          await show(data, () => opened !== undefined);
        },
      );
      if (!opened) throw new Error("nothing was opened");
      await opened.waitForURL(cluster.url + opens);
      await until("it is closed", async () => {
        if (isSentAgain) await closeAll(page); // it may have been the one before that was pressed, and opened this late
        return !(await shown(page)).some((note) => note.title === title);
      });
      await opened.getByRole("link", { name: "New chat" }).first().waitFor();
      expect(await opened.evaluate(() => "hit" in window)).toBe(false);
      // Nothing that leads to the start is shown to somebody who looks at it: a page that a second press has opened may
      // not stay, and for the worker each is open a little longer.
      await until("the worker knows of no other page", async () => {
        for (const other of context.pages()) if (other !== page) await other.close();
        return (await pagesOfWorker(page)).length === 1;
      });
      return note;
    };
    await sendAndPress(said(`/chats/${ID}`), `/chats/${ID}`);
    for (const hostile of HOSTILE) {
      expect(await sendAndPress(JSON.stringify(hostile), "/")).toMatchObject({ ...hostile, path: "/" });
    }
    expect(asked.filter((url) => !url.startsWith(cluster.url))).toEqual([]);
  });
});

test("the page is the same with it: what it reads comes from the server", async () => {
  const { page } = await withWorker();
  await page.reload();
  await composer(page).waitFor();
  expect(await page.evaluate(() => navigator.serviceWorker.controller?.scriptURL)).toBe(`${cluster.url}/sw.js`);
  const ways = await page.evaluate(() =>
    performance.getEntriesByType("resource").map((entry) => (entry as PerformanceResourceTiming).workerStart),
  );
  expect(ways.filter((startedAt) => startedAt > 0)).toEqual([]);
});
