// Shows what the cluster sends to this browser, and opens the chat that it is about. It caches nothing and answers no
// request: without it the page is the same.

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("push", (event) => {
  event.waitUntil(show(said(event.data)));
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
  const pages = await self.clients.matchAll({ type: "window" });
  const isSeen = pages.some((page) => page.visibilityState === "visible" && new URL(page.url).pathname === path);
  if (isSeen) return;
  await self.registration.showNotification(title, { body, tag, icon: "/icon.svg", data: { path } });
}

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(openPage(event.notification.data?.path ?? "/"));
});

async function openPage(path) {
  const pages = await self.clients.matchAll({ type: "window" });
  const open = pages.find((page) => new URL(page.url).pathname === path);
  if (open) return open.focus();
  return self.clients.openWindow(path);
}
