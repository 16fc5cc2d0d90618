/** What this page is there to show: anything is killed while one reads, and the text goes on. */

import { afterEach, describe, expect, test } from "vitest";
import {
  allReplicas,
  atRest,
  ENDLESS,
  expectHistory,
  history,
  kill,
  killAndReturn,
  newChat,
  open,
  ownerOf,
  say,
  stopAndCompare,
  until,
  wordsShown,
} from "./page.ts";

const WORDS = 800;

afterEach(() => allReplicas());

/** A page that reads an answer which goes on until it is stopped. */
async function reading() {
  const { id } = await newChat(ENDLESS);
  const page = await open(`/chats/${id}`);
  const someWords = () => until("some words", async () => (await wordsShown(page)) > 20);
  await someWords();
  return { id, page, someWords };
}

describe("while a browser watches", () => {
  test("the owner is killed: another replica goes on, and the page says so", async () => {
    const { id, page, someWords } = await reading();
    kill((await ownerOf(id)).name);
    await page.getByText(/Its replica was lost: continued on replica-\d/).waitFor();
    await someWords();
    await stopAndCompare(page, id);
  });

  test("every replica is killed in turn, so also the one that serves the page", async () => {
    const { id, page, someWords } = await reading();
    for (const name of ["replica-1", "replica-2", "replica-3"]) {
      await someWords();
      await killAndReturn(name);
    }
    await someWords();
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
    const { id, page, someWords } = await reading();
    const { name } = await ownerOf(id);
    kill(name, "SIGSTOP");
    try {
      // The page's own connection may be the frozen one's.
      await page.getByText(/Its replica was lost: continued on/).waitFor();
    } finally {
      kill(name, "SIGCONT");
    }
    await someWords();
    await stopAndCompare(page, id);
  });
});
