/** What this page is there to show: anything is killed while one reads, and the text goes on. */

import { afterEach, describe, expect, test } from "vitest";
import {
  allReplicas,
  atRest,
  expectHistory,
  history,
  kill,
  newChat,
  open,
  ownerOf,
  until,
  wordsShown,
} from "./page.ts";

const ANSWER = "[[tokens=240 tps=40]]";
const WORDS = 240;

afterEach(() => allReplicas());

describe("while a browser watches", () => {
  test("the owner is killed: another replica goes on, and the page says so", async () => {
    const { id } = await newChat(ANSWER);
    const page = await open(`/chats/${id}`);
    await until("some words", async () => (await wordsShown(page)) > 20);
    kill((await ownerOf(id)).name);
    await page.getByText(/Its replica was lost: continued on replica-\d/).waitFor();
    await atRest(id);
    await expectHistory(page, id);
    expect((await history(id)).at(-1)?.text.match(/w\d+/g)).toHaveLength(WORDS);
  });

  test("every replica is killed in turn, so also the one that serves the page", async () => {
    const { id } = await newChat("[[tokens=500 tps=40]]");
    const page = await open(`/chats/${id}`);
    for (const name of ["replica-1", "replica-2", "replica-3"]) {
      await until("words come", async () => (await wordsShown(page)) > 20);
      kill(name);
      await new Promise((resolve) => setTimeout(resolve, 500));
      await allReplicas();
    }
    await atRest(id);
    await expectHistory(page, id);
    expect((await history(id)).at(-1)?.text.match(/w\d+/g)).toHaveLength(500);
  }, 120_000);

  test("the owner is drained: nothing is lost", async () => {
    const { id } = await newChat(ANSWER);
    const page = await open(`/chats/${id}`);
    await until("some words", async () => (await wordsShown(page)) > 20);
    kill((await ownerOf(id)).name, "SIGTERM");
    await atRest(id);
    await expectHistory(page, id);
  });

  test("the owner is frozen: another replica goes on", async () => {
    const { id } = await newChat("[[tokens=1200 tps=60]]");
    const page = await open(`/chats/${id}`);
    await until("some words", async () => (await wordsShown(page)) > 20);
    const { name } = await ownerOf(id);
    kill(name, "SIGSTOP");
    try {
      // The page's own connection may be the frozen one's.
      await page.getByText(/Its replica was lost: continued on/).waitFor({ timeout: 40_000 });
    } finally {
      kill(name, "SIGCONT");
    }
    await atRest(id);
    await expectHistory(page, id);
  }, 120_000);
});
