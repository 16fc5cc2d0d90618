/** What this page is there to show: anything is killed while one reads, and the text goes on. */

import type { Page } from "playwright-core";
import { afterEach, describe, expect, test } from "vitest";
import {
  allReplicas,
  atRest,
  call,
  chatNow,
  cluster,
  ENDLESS,
  expectHistory,
  history,
  hurt,
  kill,
  newChat,
  open,
  ownerOf,
  say,
  stopAndCompare,
  until,
  wordsShown,
} from "./page.ts";

const WORDS = 300;

afterEach(() => allReplicas());

/** A page that reads an answer which goes on until it is stopped. */
async function reading() {
  const { id } = await newChat(ENDLESS);
  const page = await open(`/chats/${id}`);
  const moreWords = async (count = 10) => {
    const before = await wordsShown(page);
    await until("more words", async () => (await wordsShown(page)) >= before + count);
  };
  await moreWords();
  return { id, page, moreWords };
}

const isTold = (page: Page, text: string | RegExp) => page.getByText(text).first().waitFor();

type Replica = { name: string; worker_id: string };

describe("while a browser watches", () => {
  test("the owner is killed, then every other replica, so also the one that serves the page", async () => {
    const { id, page, moreWords } = await reading();
    const owner = await ownerOf(id);
    const { replicas } = await call<{ replicas: Replica[] }>("GET", "/replicas");
    kill(owner.name);
    await isTold(page, /Its replica was lost: continued on replica-\d/);
    const killed = [owner.worker_id];
    for (const { name, worker_id } of replicas.filter(({ name }) => name !== owner.name)) {
      await allReplicas(2, killed);
      await moreWords();
      kill(name);
      killed.push(worker_id);
    }
    // Words that are begun anew are fewer than those before: what was killed owned the chat, or served the page.
    await until("another one owns it", async () => !killed.includes((await ownerOf(id)).worker_id));
    await moreWords();
    await stopAndCompare(page, id);
  });

  test("the owner is drained: nothing is lost", async () => {
    const page = await open("/");
    await say(page, `[[tokens=${WORDS} tps=40]]`);
    await until("some words", async () => (await wordsShown(page)) > 20);
    const id = page.url().split("/").at(-1) as string;
    kill((await ownerOf(id)).name, "SIGTERM");
    await atRest(id);
    await expectHistory(page, id);
    expect((await history(id)).at(-1)?.text.match(/w\d+/g)).toHaveLength(WORDS);
  });

  test("the owner is frozen: another replica goes on", async () => {
    const { id, page, moreWords } = await reading();
    const { name } = await ownerOf(id);
    kill(name, "SIGSTOP");
    try {
      // The page's own connection may be the frozen one's.
      await isTold(page, /Its replica was lost: continued on/);
    } finally {
      kill(name, "SIGCONT");
    }
    await moreWords();
    await stopAndCompare(page, id);
  });

  test("Redis stands still, and comes back empty: that nothing comes is told, and then it goes on", async () => {
    const { id, page, moreWords } = await reading();
    hurt("redis-server", "SIGSTOP");
    try {
      await isTold(page, "Nothing has come for a while");
    } finally {
      hurt("redis-server", "SIGKILL");
    }
    await moreWords();
    await stopAndCompare(page, id);
  });

  test("Postgres is restarted: what cannot be done meanwhile is told, and the answer goes on", async () => {
    const { id, page, moreWords } = await reading();
    const supervisor = (signal: NodeJS.Signals) => process.kill(cluster.pid, signal);
    supervisor("SIGSTOP"); // it would start it again at once
    try {
      hurt("postgres", "SIGINT");
      await page.getByRole("button", { name: "Stop", exact: true }).click();
      await page
        .getByRole("region", { name: "Notifications" })
        .getByText(/^Stop failed/)
        .waitFor();
    } finally {
      supervisor("SIGCONT");
    }
    await moreWords();
    await until("Postgres is back", () => chatNow(id).catch(() => null));
    await stopAndCompare(page, id);
  });
});
