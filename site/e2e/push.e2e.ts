/**
 * The service worker in a browser: it shows what is sent, and opens the chat that it is about. What is sent comes by the
 * browser's own tools here, in the place of a push service; a press on a notification is an event made up, and a window
 * that would be opened is noted: that takes a person.
 */

import type { CDPSession, Page } from "playwright-core";
import { expect, test } from "vitest";
import { atRest, cluster, composer, newChat, open, until } from "./page.ts";

type Shown = { title: string; body: string; tag: string; path: string };
type Sent = (data: string) => Promise<void>;

/** A page with the worker, registered as the page itself does, and how to send it something. */
async function withWorker(path = "/"): Promise<{ page: Page; send: Sent }> {
  const page = await open(path);
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
    await navigator.serviceWorker.ready;
  });
  const registered = await id;
  const send = async (data: string) => {
    await devtools.send("ServiceWorker.deliverPushMessage", { origin: cluster.url, registrationId: registered, data });
  };
  return { page, send };
}

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

const said = (path: string, title = "A title") => JSON.stringify({ title, body: "The answer", path, tag: path });
const ID = "0198c7e2-0000-7000-8000-000000000001";

test("what is sent is shown, once for each chat, and nothing else is asked for or kept", async () => {
  const { page, send } = await withWorker();
  const asked: string[] = [];
  page.context().on("request", (request) => asked.push(request.url()));
  await send(said(`/chats/${ID}`));
  await send(said(`/chats/${ID}`, "<b>Another</b> title"));
  await until("the later one is there", async () => (await shown(page))[0]?.title === "<b>Another</b> title");
  expect(await shown(page)).toEqual([
    { title: "<b>Another</b> title", body: "The answer", tag: `/chats/${ID}`, path: `/chats/${ID}` },
  ]);
  expect(asked.filter((url) => !url.startsWith(cluster.url))).toEqual([]);
  expect(await page.evaluate(() => caches.keys())).toEqual([]);
});

test.each([
  ["is no JSON", "{", { title: "chatcluster", body: "There is something new.", path: "/" }],
  ["leads elsewhere", said("https://evil.example/"), { title: "A title", path: "/" }],
  ["leads to a page of another kind", said("/oauth/callback?x=1"), { path: "/" }],
])("what %s opens the start, at most", async (_, data, wanted) => {
  // Nobody looks at the start, of which nothing would be shown then.
  const { page, send } = await withWorker(`/chats/${(await newChat("[[say=begin]]")).id}`);
  await send(data);
  await until("it is shown", async () => (await shown(page)).length === 1);
  expect((await shown(page))[0]).toMatchObject(wanted);
});

test("nothing is shown of the chat that one looks at", async () => {
  const { id } = await newChat("[[say=begin]]");
  await atRest(id);
  const { page, send } = await withWorker(`/chats/${id}`);
  await send(said(`/chats/${id}`, "Of this chat"));
  await send(said(`/chats/${ID}`, "Of another"));
  await until("the other is shown", async () => (await shown(page)).length > 0);
  expect((await shown(page)).map(({ title }) => title)).toEqual(["Of another"]);
});

test("a press on it closes it, and opens its chat", async () => {
  const { page, send } = await withWorker();
  await send(said(`/chats/${ID}`));
  await until("it is shown", async () => (await shown(page)).length === 1);
  const [worker] = page.context().serviceWorkers();
  const opened = await worker?.evaluate(async () => {
    const scope = self as unknown as {
      clients: { openWindow: (path: string) => Promise<void> };
      registration: ServiceWorkerRegistration;
      NotificationEvent: new (type: string, given: { notification: Notification }) => Event;
    };
    const opening = new Promise<string>((resolve) => {
      scope.clients.openWindow = async (path) => resolve(path);
    });
    const [notification] = await scope.registration.getNotifications();
    self.dispatchEvent(
      new scope.NotificationEvent("notificationclick", { notification: notification as Notification }),
    );
    return await opening;
  });
  expect(opened).toBe(`/chats/${ID}`);
  await until("it is closed", async () => (await shown(page)).length === 0);
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
