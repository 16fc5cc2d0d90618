/** A queue that a cache remembers, a refetch brings, and the stream tells: which counts, and when. */

import { expect, test } from "vitest";
import { call, composer, ENDLESS, newChat, open, queueOf, say, until, wordsShown } from "./page.ts";

async function busyChat(...queued: string[]): Promise<string> {
  const { id } = await newChat(ENDLESS);
  for (const content of queued) await call("POST", `/chats/${id}/messages`, { content });
  return id;
}

const queueOn = (page: Awaited<ReturnType<typeof open>>) =>
  page.getByRole("region", { name: "Queue" }).getByRole("listitem").allTextContents();

test("a queue that changed while another chat was shown is right at once when one comes back", async () => {
  const [first, second] = [await busyChat("one", "two"), await busyChat()];
  const page = await open(`/chats/${first}`);
  await until("the queue is shown", async () => (await queueOn(page)).length === 2);
  await page.evaluate((path) => history.pushState(null, "", path), `/chats/${second}`);
  await until("the other chat is shown, without it", async () => (await queueOn(page)).length === 0);
  await until("the other chat answers", () => wordsShown(page));
  const [head] = await queueOf(first);
  await call("DELETE", `/chats/${first}/queue/${head?.id}`);
  await page.goBack();
  await until("the queue is as it is now", async () => (await queueOn(page)).join() === "two");
  for (const id of [first, second]) await call("POST", `/chats/${id}/interrupt`);
});

test("an old answer that comes late changes nothing that the stream has told", async () => {
  const id = await busyChat("one", "two");
  const page = await open(`/chats/${id}`);
  await until("the queue is shown", async () => (await queueOn(page)).length === 2);
  const old = await page.evaluate(
    (path) => fetch(path).then((answer) => answer.text()),
    `/api/v1/chats/${id}/messages?before=latest`,
  );
  await say(page, "three");
  await until("the stream has told the queue", async () => (await queueOn(page)).length === 3);
  let late = 0;
  await page.route(/messages\?before=latest/, async (route) => {
    late++;
    await route.fulfill({ body: old, contentType: "application/json" });
  });
  await page.locator('nav a[href="/"]').click();
  await composer(page).waitFor();
  await page.goBack();
  await until("the old answer came", () => late > 0);
  await until("the stream has corrected it", async () => (await queueOn(page)).length === 3);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(await queueOn(page)).toHaveLength(3);
  await call("POST", `/chats/${id}/interrupt`);
});
