/** What the page costs: the figures are printed, and judged with limits that a busy machine keeps. */

import type { CDPSession, Page } from "playwright-core";
import { expect, test } from "vitest";
import { atRest, call, cluster, log, newChat, open, preview, until, wordsShown } from "./page.ts";

const told = (what: string, figures: Record<string, number>) =>
  console.log(
    `${what}: ${Object.entries(figures)
      .map(([name, value]) => `${name} ${Math.round(value)}`)
      .join(", ")}`,
  );

const MESSAGES = 1000;

/** A chat of so many messages, written past the page. */
async function longChat(): Promise<string> {
  const { id } = await newChat("Message 0 [[tps=0 tokens=20]]");
  await atRest(id);
  for (let sent = 2; sent < MESSAGES; sent += 2) {
    await call("POST", `/chats/${id}/messages`, { content: `Message ${sent} [[tps=0 tokens=20]]` });
    // A queue holds few: it is let run empty now and then.
    if (sent % 20 === 0) await atRest(id);
  }
  await atRest(id);
  return id;
}

/** Milliseconds of script that this page has run. */
async function scriptMs(devtools: CDPSession): Promise<number> {
  const { metrics } = await devtools.send("Performance.getMetrics");
  return (metrics.find(({ name }) => name === "ScriptDuration")?.value ?? 0) * 1000;
}

async function measured(page: Page): Promise<CDPSession> {
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Performance.enable");
  return devtools;
}

/** Note every task above 50 ms from now on, which is what a browser calls long. */
async function noteLongTasks(page: Page): Promise<() => Promise<number>> {
  await page.evaluate(() => {
    const noted: number[] = [];
    (window as unknown as { noted: number[] }).noted = noted;
    new PerformanceObserver((list) => noted.push(...list.getEntries().map(({ duration }) => duration))).observe({
      entryTypes: ["longtask"],
    });
  });
  return () => page.evaluate(() => Math.max(0, ...(window as unknown as { noted: number[] }).noted));
}

test("a chat of 1,000 messages opens at once, scrolls to its beginning, and costs little per token", async () => {
  const id = await longChat();
  const page = await open("/");
  await page.getByRole("button", { name: "Preferences" }).waitFor();
  const began = Date.now();
  await page.goto(`${cluster.url}/chats/${id}`);
  await log(page).getByText("Message 998").waitFor();
  const openMs = Date.now() - began;
  const articles = page.locator("[data-message]");
  const earlier = page.getByRole("button", { name: "Earlier messages" });
  await earlier.waitFor(); // it comes with the rest of a page, after what one sees first
  while (await earlier.count()) {
    const before = await articles.count();
    await earlier.evaluate((button) => (button as HTMLElement).click());
    await until("earlier messages came", async () => (await articles.count()) > before);
  }
  expect(await articles.count()).toBe(MESSAGES);
  const devtools = await measured(page);
  const script = await scriptMs(devtools);
  await call("POST", `/chats/${id}/messages`, { content: "[[tokens=400 tps=100]]" });
  await atRest(id); // asked past the page: to count its messages would be script, too
  await until("it is answered", async () => (await articles.count()) === MESSAGES + 2);
  const perToken = ((await scriptMs(devtools)) - script) / 400;
  console.log(`a chat of 1,000 messages: opened in ${openMs} ms, ${perToken.toFixed(2)} ms of script per token`);
  expect(openMs).toBeLessThan(5000);
  expect(perToken).toBeLessThan(10);
});

test("an answer of 40 kB of Markdown costs little script in all, whatever its length is on the way", async () => {
  const markdown =
    `# Head\\n${"- **item** with `code` and [a link](https://example.com/x), and some more words\\n".repeat(20)}\\n`
      .replaceAll("\\n", "\n")
      .repeat(24)
      .slice(0, 40_000);
  const page = await open("/");
  const devtools = await measured(page);
  const script = await scriptMs(devtools);
  const { id } = await newChat(`[[tps=300 say=${markdown.replaceAll("\n\n", "\n")}]]`);
  await page.goto(`${cluster.url}/chats/${id}`);
  await until(
    "it is answered",
    async () => (await page.getByText("Answer complete").count()) > 0 || !(await preview(page).count()),
  );
  await atRest(id);
  const ms = (await scriptMs(devtools)) - script;
  told("an answer of 40 kB of Markdown", { "ms of script in all": ms });
  expect(ms).toBeLessThan(20_000);
});

test("600 tokens a second leave no long task, and 10,000 tokens no memory", async () => {
  const page = await open("/");
  const devtools = await measured(page);
  const heap = async () => {
    await devtools.send("HeapProfiler.collectGarbage");
    const { metrics } = await devtools.send("Performance.getMetrics");
    return (metrics.find(({ name }) => name === "JSHeapUsedSize")?.value ?? 0) / 1e6;
  };
  const { id } = await newChat("[[tokens=600 tps=600]]");
  await page.goto(`${cluster.url}/chats/${id}`);
  await atRest(id);
  await until("it is shown", async () => !(await preview(page).count()));
  const before = await heap();
  const longest = await noteLongTasks(page);
  await call("POST", `/chats/${id}/messages`, { content: "[[tokens=10000 tps=600]]" });
  await until("words come", () => wordsShown(page));
  await atRest(id);
  await until("it is shown", async () => !(await preview(page).count()));
  const after = await heap();
  const taskMs = await longest();
  told("10,000 tokens at 600 a second", { "longest task, ms": taskMs, "MB before": before, "MB after": after });
  expect(taskMs).toBeLessThan(1000);
  expect(after - before).toBeLessThan(40);
});
