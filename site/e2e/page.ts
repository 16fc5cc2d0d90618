/** A browser with the page, signed in, and what tests do on it. */

import { type Browser, type BrowserContext, chromium, type Locator, type Page } from "playwright-core";
import { afterAll, afterEach, expect, inject } from "vitest";
import { replicaPid, serverPid } from "./cluster.ts";
import { noteRequests, tellOf } from "./failure.ts";

const FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"];
export const cluster = inject("cluster");

/** How long a state may take to come on a machine that is busy with other things. It bounds a failure, not a success. */
export const PATIENCE_MS = Number(process.env.PATIENCE_MS ?? 120_000);
/** An answer that is under way until somebody stops it, however long what is looked at meanwhile takes. */
export const ENDLESS = "[[tokens=100000 tps=40]]";

/** By the display that each is seen on: as a rule on none. */
const browsers = new Map<string, Browser>();
const contexts: BrowserContext[] = [];
let problems: string[] = [];

export type View = { width?: number; height?: number; dark?: boolean; token?: string; display?: string };

async function browserOn(display: string): Promise<Browser> {
  const known = browsers.get(display);
  if (known) return known;
  const env = { ...process.env, ...(display && { DISPLAY: display }) } as Record<string, string>;
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const browser = await chromium.launch({ executablePath, args: FLAGS, headless: !display, env });
  browsers.set(display, browser);
  return browser;
}

const ALL_VIEWS: Record<string, View> = { dark: { dark: true }, narrow: { width: 320, height: 640 } };
/** How tests look at the page that do not say it themselves: `PAGE_VIEW=narrow`, say. */
const USUAL = ALL_VIEWS[process.env.PAGE_VIEW ?? ""] ?? {};
const NARROW_PX = 768;

/** A page in a browser of its own kind, signed in unless the token is empty. */
export async function open(path: string, wanted: View = {}): Promise<Page> {
  const view = { ...USUAL, ...wanted };
  const browser = await browserOn(view.display ?? "");
  const context = await browser.newContext({
    viewport: { width: view.width ?? 1100, height: view.height ?? 760 },
    colorScheme: view.dark ? "dark" : "light",
    permissions: ["clipboard-read", "clipboard-write"],
  });
  contexts.push(context);
  const token = view.token ?? cluster.token;
  if (token) {
    const headers = { Origin: cluster.url };
    const answer = await context.request.post(`${cluster.url}/api/v1/session`, { data: { token }, headers });
    expect(answer.status()).toBe(201);
  }
  return tabOf(context, path);
}

/** Another tab of the same browser. */
export async function tabOf(context: BrowserContext, path: string): Promise<Page> {
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  noteRequests(page);
  page.on("pageerror", (error) => problems.push(`error: ${error.message}`));
  page.on("console", (message) => {
    // A request that is refused or cut off is what the page is there to live with; the browser reports it all the same.
    const isRequest = message.text().startsWith("Failed to load resource");
    if ((message.type() === "error" || message.type() === "warning") && !isRequest) problems.push(message.text());
  });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) =>
      console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`),
    );
  });
  await page.goto(cluster.url + path);
  return page;
}

afterEach(async ({ task }) => {
  const opened = contexts.splice(0);
  if (task.result?.state === "fail") for (const page of opened.flatMap((one) => one.pages())) await tellOf(page);
  for (const context of opened) await context.close();
  const found = problems;
  problems = [];
  expect(found, "the console").toEqual([]);
});
afterAll(async () => {
  for (const browser of browsers.values()) await browser.close();
  browsers.clear();
});

// --- the API, past the page -----------------------------------------------------------------------

type Json = Record<string, unknown>;

const READ_MS_MAX = 15_000;
const WRITE_MS_MAX = 60_000;

export async function call<T = Json>(method: string, path: string, body?: unknown, token = cluster.token): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      const response = await fetch(`${cluster.url}/api/v1${path}`, {
        method,
        headers: { Authorization: `Bearer ${token}`, ...(body ? { "Content-Type": "application/json" } : {}) },
        ...(body ? { body: JSON.stringify(body) } : {}),
        // It may be a frozen replica that took it; what only reads is asked for again.
        signal: AbortSignal.timeout(method === "GET" ? READ_MS_MAX : WRITE_MS_MAX),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
      return (text ? JSON.parse(text) : {}) as T;
    } catch (error) {
      if (method !== "GET" || tries > 20) throw error; // a replica was killed in the middle of it
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

export type Chat = { id: string; title: string; status: string; worker_id: string | null };
type Message = { id: number; role: string; parts: { type: string; text: string }[]; finish_reason?: string };

export const newChat = (content: string, more: Json = {}) => call<Chat>("POST", "/chats", { content, ...more });
export const chatNow = (id: string) => call<Chat>("GET", `/chats/${id}`);
export const queueOf = async (id: string) => (await call<{ queue: Message[] }>("GET", `/chats/${id}/messages`)).queue;

export async function history(id: string): Promise<{ role: string; text: string }[]> {
  const { messages } = await call<{ messages: Message[] }>("GET", `/chats/${id}/messages?limit=500`);
  return messages.map(({ role, parts }) => ({ role, text: parts.map(({ text }) => text ?? "").join("") }));
}

/** Wait until something holds, however long that takes within reason. */
export async function until(
  what: string | (() => string),
  holds: () => Promise<unknown> | unknown,
  ms = PATIENCE_MS,
): Promise<void> {
  for (const end = Date.now() + ms; ; ) {
    if (await holds()) return;
    if (Date.now() > end) throw new Error(`it did not come to pass: ${typeof what === "string" ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export const atRest = (id: string) => until("the chat rests", async () => (await chatNow(id)).status === "waiting");

type Replica = { worker_id: string; name: string };

/** The replica that a chat is with. */
export async function ownerOf(id: string): Promise<Replica> {
  let found: Replica | undefined;
  await until("somebody owns the chat", async () => {
    const { worker_id } = await chatNow(id);
    found = (await replicasNow()).find((replica) => replica.worker_id === worker_id);
    return found;
  });
  return found as Replica;
}

export function kill(name: string, signal: NodeJS.Signals = "SIGKILL"): void {
  const pid = replicaPid(cluster.pid, name);
  if (pid === null) throw new Error(`${name} does not run`);
  process.kill(pid, signal);
}

/** Signal the cluster's Postgres or Redis; whoever ends is started again. */
export function hurt(program: "postgres" | "redis-server", signal: NodeJS.Signals): void {
  const pid = serverPid(cluster.pid, program);
  if (pid === null) throw new Error(`${program} does not run`);
  process.kill(pid, signal);
}

const replicasNow = async () =>
  (await call<{ replicas: (Replica & { state: string })[] }>("GET", "/replicas")).replicas;

/** Wait until so many replicas are active, without these that were killed a moment ago. */
export async function allReplicas(count = 3, without: readonly string[] = []): Promise<void> {
  await until(`${count} replicas are active`, async () => {
    const active = (await replicasNow()).filter(({ state }) => state === "active");
    return active.filter(({ worker_id }) => !without.includes(worker_id)).length >= count;
  });
}

// --- what is on the page --------------------------------------------------------------------------

export const composer = (page: Page): Locator => page.getByRole("textbox", { name: "Message", exact: true });
export const log = (page: Page): Locator => page.getByRole("log");
export const preview = (page: Page): Locator => page.locator("[data-preview]");

/** Do something in the list of chats, which on a narrow screen is opened for that, and closed. */
export async function inList(page: Page, deed: (list: Locator) => Promise<unknown>): Promise<void> {
  const list = page.getByRole("navigation", { name: "Chats and pages" });
  const isNarrow = (page.viewportSize()?.width ?? 0) < NARROW_PX;
  if (isNarrow) await page.getByRole("button", { name: "Open the list of chats" }).click();
  await list.waitFor();
  await deed(list);
  if (isNarrow && (await list.count())) await page.getByRole("button", { name: "Close the list" }).click();
}

export async function say(page: Page, text: string): Promise<void> {
  await composer(page).fill(text);
  await composer(page).press("Enter");
}

const flat = (text: string) => text.replace(/\s+/g, " ").trim();

const TABS_MAX = 150;

/** Go there as one does who has no mouse. */
export async function tabTo(page: Page, target: Locator): Promise<void> {
  await target.waitFor();
  for (let tabs = 0; tabs < TABS_MAX; tabs++) {
    if (await target.evaluate((element) => element === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`${target} is not reached by keyboard`);
}

/** The messages on the page are those of the history: the same words, each once, in order. What comes meanwhile counts. */
export async function expectHistory(page: Page, id: string): Promise<void> {
  const wanted = async () => (await history(id)).filter(({ role }) => role !== "system").map(({ text }) => flat(text));
  const texts = () =>
    page
      .locator("[data-message]")
      .evaluateAll((articles) =>
        articles.map((article) => article.querySelector(".prose, .whitespace-pre-wrap")?.textContent ?? ""),
      );
  await until(
    "the page shows the history",
    async () => JSON.stringify((await texts()).map(flat)) === JSON.stringify(await wanted()),
  ).catch(async () => expect((await texts()).map(flat)).toEqual(await wanted()));
  expect(await preview(page).count()).toBe(0);
}

/** Stop the answer that is under way. What is on the page then is the history: its words, from the first one on. */
export async function stopAndCompare(page: Page, id: string): Promise<void> {
  await page.getByRole("button", { name: "Stop", exact: true }).click();
  await atRest(id);
  await expectHistory(page, id);
  const words = (await history(id)).at(-1)?.text.match(/w\d+/g) ?? [];
  expect(words.length).toBeGreaterThan(0);
  expect(words).toEqual(words.map((_, at) => `w${at}`));
}

/** The number of the last word `w<i>` of the answer under way. */
export async function wordsShown(page: Page): Promise<number> {
  const text = (await preview(page).count()) ? await preview(page).textContent() : "";
  return (text?.match(/w\d+/g) ?? []).length;
}
