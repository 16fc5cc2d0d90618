// Shows what the cluster sends to this browser, and opens the chat that it is about. It caches nothing and answers no
// request: without it the page is the same.

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

let shown = Promise.resolve();

self.addEventListener("push", (event) => {
  const what = said(event.data);
  // One after the other: of two about one chat the later one stays, also where it was quicker.
  shown = shown.catch(() => undefined).then(() => show(what));
  event.waitUntil(shown);
});

/** What was sent, or that something was: a browser insists that something is shown. */
function said(data) {
  try {
    const { title, body, path, tag } = data.json();
    return { title: String(title), body: String(body), path: pathOfChat(path), tag: String(tag) };
  } catch {
    return { title: "chatcluster", body: "There is something new.", path: "/", tag: "chatcluster" };
  }
}

/** Nothing but a chat of this very page is opened, whatever was sent. */
const pathOfChat = (path) => (/^\/chats\/[0-9a-f-]{36}$/.test(path) ? path : "/");

/** Nothing is shown to somebody who looks at the chat, as far as the browser lets that pass. */
async function show({ title, body, path, tag }) {
  const pages = await openPages();
  const isSeen = pages.some((page) => page.visibilityState === "visible" && new URL(page.url).pathname === path);
  if (isSeen) return;
  await self.registration.showNotification(title, { body, tag, icon: "/icon.svg", data: { path } });
}

/** All of them: a page that was loaded past this worker is a page as well. */
const openPages = () => self.clients.matchAll({ type: "window", includeUncontrolled: true });

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(openPage(event.notification.data?.path ?? "/"));
});

async function openPage(path) {
  const pages = await openPages();
  const open = pages.find((page) => new URL(page.url).pathname === path);
  if (open) return open.focus();
  return self.clients.openWindow(path);
}

// A browser may end its subscription and make another one at any time.
self.addEventListener("pushsubscriptionchange", (event) => event.waitUntil(renew(event)));

const SUBSCRIPTIONS = "/api/v1/me/push-subscriptions";

/** The cluster is told of the new one, if it had the old one for whoever is signed in here. */
async function renew({ oldSubscription, newSubscription }) {
  const known = await fetch(SUBSCRIPTIONS);
  if (!oldSubscription || !known.ok) return;
  const { subscriptions } = await known.json();
  if (!subscriptions.some(({ endpoint }) => endpoint === oldSubscription.endpoint)) return;
  const made = newSubscription ?? (await self.registration.pushManager.subscribe(oldSubscription.options));
  const headers = { "Content-Type": "application/json" };
  await fetch(SUBSCRIPTIONS, { method: "POST", headers, body: JSON.stringify(made) });
}
