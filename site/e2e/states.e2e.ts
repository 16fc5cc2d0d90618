/** What one is told, and can do, while something is away: the network, the session, the replicas. */

import type { Page, Response } from "playwright-core";
import { afterAll, describe, expect, test } from "vitest";
import { expectAccessible, NARROW, VIEWS } from "./accessible.ts";
import {
  allReplicas,
  atRest,
  call,
  composer,
  ENDLESS,
  expectHistory,
  kill,
  newChat,
  open,
  say,
  stopAndCompare,
  tabOf,
  until,
  wordsShown,
} from "./page.ts";

const SHOTS = process.env.SHOTS;
const REPLICAS = ["replica-1", "replica-2", "replica-3"];

/** A state as axe and people see it: with `SHOTS=/folder` there is a picture of each. */
async function seen(page: Page, state: string): Promise<void> {
  await expectAccessible(page, state);
  const { width } = page.viewportSize() ?? {};
  const look = await page.evaluate(() => matchMedia("(prefers-color-scheme: dark)").matches);
  if (SHOTS) await page.screenshot({ path: `${SHOTS}/${state}-${width}${look ? "-dark" : ""}.png` });
}

/** A user of its own, so that what is revoked is nobody else's. */
const userOf = async (name: string) =>
  await call<{ token: string; details: { id: string } }>("POST", "/tokens", { user: name });

const signIn = (page: Page) => page.getByRole("heading", { name: "Sign in to chatcluster" });

afterAll(() => {
  for (const name of REPLICAS) kill(name, "SIGCONT");
});

describe.each(VIEWS)("%s", (look, view) => {
  test("without a network: it is told, what was written stays, and all goes on when the network is back", async () => {
    const { id } = await newChat(ENDLESS, { title: "Offline" });
    const page = await open(`/chats/${id}`, view);
    await until("words come", () => wordsShown(page));
    await page.context().setOffline(true);
    // What is open goes on in this browser: it is the next request that finds no network.
    await composer(page).fill("later [[say=A]]");
    await page.keyboard.press("Enter");
    await page.getByText(/^Send failed/).waitFor();
    expect(await composer(page).inputValue()).toBe("later [[say=A]]");
    await seen(page, "offline");
    await page.getByRole("button", { name: "Dismiss" }).click();
    await page.context().setOffline(false);
    await composer(page).press("Enter");
    await page.getByRole("region", { name: "Queue" }).getByText("later").waitFor();
    await page.getByRole("button", { name: "Take out of the queue" }).click();
    await stopAndCompare(page, id);
  });

  test("with a session that ends in mid-answer: one signs in, and is where one was, with what one wrote", async () => {
    const [first, second] = [await userOf(`ann ${look}`), await userOf(`ann ${look}`)];
    const { id } = await call<{ id: string }>("POST", "/chats", { content: ENDLESS }, first.token);
    const page = await open(`/chats/${id}`, { ...view, token: first.token });
    await until("words come", () => wordsShown(page));
    await composer(page).fill("half a thought");
    await call("DELETE", `/tokens/${first.details.id}`);
    await signIn(page).waitFor();
    await page.getByText("Your session has ended.").waitFor();
    await page.locator("input:focus").waitFor();
    await seen(page, "session-ended");
    await page.keyboard.type(second.token);
    await page.keyboard.press("Enter");
    await until("words come again", () => wordsShown(page));
    expect(await composer(page).inputValue()).toBe("half a thought");
    await call("POST", `/chats/${id}/interrupt`, undefined, second.token);
    await page.getByText("Stopped here.").waitFor();
  });

  test("signed out in another tab: nothing is left, of either", async () => {
    const { token } = await userOf(`bob ${look}`);
    const { id } = await call<{ id: string }>("POST", "/chats", { content: "[[say=secret]]" }, token);
    const page = await open(`/chats/${id}`, { ...view, token });
    await page.getByText("secret", { exact: true }).waitFor();
    await composer(page).fill("half a thought");
    const other = await tabOf(page.context(), "/usage");
    await other.getByRole("heading", { name: "Usage" }).waitFor();
    await other.keyboard.press("Control+K");
    await other.getByRole("button", { name: "Preferences" }).click();
    await other.getByRole("button", { name: "Sign out" }).click();
    await signIn(other).waitFor();
    await signIn(page).waitFor();
    expect(await page.getByText("secret").count()).toBe(0);
    expect(await page.evaluate(() => Object.keys(localStorage).filter((name) => name.includes("draft")))).toEqual([]);
    expect(await other.getByText("Your session has ended.").count()).toBe(0);
    await seen(page, "signed-out-elsewhere");
  });
});

test("with every replica frozen: that is told, and the answer goes on afterwards", async () => {
  const { id } = await newChat(ENDLESS, { title: "Frozen" });
  const page = await open(`/chats/${id}`, NARROW);
  await until("words come", () => wordsShown(page));
  const loaded = () => performance.getEntriesByType("resource").some(({ name }) => /\/Details-/.test(name));
  await until("what one may open is loaded", () => page.evaluate(loaded));
  for (const name of REPLICAS) kill(name, "SIGSTOP");
  try {
    await page.getByText("Nothing has come for a while").waitFor();
    await seen(page, "silent");
    await page.getByText(/^The connection is lost/).waitFor();
    await seen(page, "frozen");
    await page.getByRole("button", { name: /^Details/ }).click();
    await page.getByRole("dialog").getByText("Replica").first().waitFor();
    await page.keyboard.press("Escape");
  } finally {
    for (const name of REPLICAS) kill(name, "SIGCONT");
  }
  await allReplicas();
  const before = await wordsShown(page);
  await until("more words", async () => (await wordsShown(page)) > before + 10);
  await stopAndCompare(page, id);
});

test("two browsers and four tabs that stop, edit, queue and send at once show one history in the end", async () => {
  const { id } = await newChat(ENDLESS);
  const first = await open(`/chats/${id}`);
  const pages = [first, await open(`/chats/${id}`)];
  for (let tab = 0; tab < 3; tab++) pages.push(await tabOf(first.context(), `/chats/${id}`));
  for (const page of pages) await until("words come", () => wordsShown(page));
  const [a, b, c, d, e] = pages as [Page, Page, Page, Page, Page];
  const isAnswer = (answer: Response) =>
    answer.request().method() !== "GET" && answer.url().includes(`/chats/${id}/messages`);
  const answered = (page: Page, deed: Promise<unknown>) => Promise.all([page.waitForResponse(isAnswer), deed]);
  const edit = async () => {
    await composer(e).press("ArrowUp");
    await e.getByRole("textbox", { name: "Edit message" }).fill("anew [[say=Z]]");
    await e.keyboard.press("Enter");
  };
  await Promise.all([
    answered(a, say(a, "one [[say=A]]")),
    answered(b, say(b, "two [[say=B]]")),
    answered(c, say(c, "three [[say=C]]")),
    d.keyboard.press("Escape"), // nothing is left to stop where the others were quicker
    answered(e, edit()),
  ]);
  await until("all is answered", async () => {
    const { queue } = await call<{ queue: unknown[] }>("GET", `/chats/${id}/messages`);
    return !queue.length;
  });
  await atRest(id);
  for (const page of pages) await expectHistory(page, id);
});
