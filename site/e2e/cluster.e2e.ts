import { expect, test } from "vitest";
import { allReplicas, atRest, call, ENDLESS, kill, newChat, open, ownerOf, until } from "./page.ts";

test("replicas come and go on the page as they do", async () => {
  await allReplicas();
  const page = await open("/cluster/replicas");
  const row = (state: string) => page.getByRole("row").filter({ hasText: state });
  await until("three are active", async () => (await row("active").count()) === 3);
  kill("replica-2");
  await row("gone").filter({ hasText: "replica-2" }).waitFor();
  await until("it is back", async () => (await row("active").count()) === 3);
});

test("a takeover is in the log with its gap", async () => {
  await allReplicas();
  const { id } = await newChat(ENDLESS);
  const { name } = await ownerOf(id);
  kill(name);
  const page = await open("/cluster/takeovers");
  const row = page.getByRole("row").filter({ hasText: id });
  await row.getByText("replica lost").waitFor();
  await until("the gap is there", async () => /\d+(\.\d)? (ms|s)$/.test((await row.textContent()) ?? ""));
  await call("POST", `/chats/${id}/interrupt`);
  await atRest(id);
  await allReplicas();
});

test("a replica is drained by a press, after it was asked", async () => {
  await allReplicas();
  const page = await open("/cluster/replicas");
  await page.getByRole("button", { name: "Drain replica-1" }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Drain" }).click();
  await page.getByText("replica-1 drains.").waitFor();
  await page
    .getByRole("row")
    .filter({ hasText: "replica-1" })
    .getByText(/draining|gone/)
    .first()
    .waitFor();
  await allReplicas();
});

test("a token is made, shown once, and revoked", async () => {
  const user = `user${Date.now()}`;
  const page = await open("/cluster/tokens");
  await page.getByRole("button", { name: "New token" }).click();
  await page.getByRole("textbox", { name: /^User/ }).fill(user);
  await page.getByRole("button", { name: "Make token" }).click();
  const secret = await page.getByRole("dialog").locator("code").textContent();
  expect(await call("GET", "/me", undefined, secret ?? "")).toMatchObject({ name: user });
  await page.getByRole("button", { name: "Done" }).click();
  const row = page.getByRole("row").filter({ hasText: user });
  await row.getByRole("button", { name: /^Revoke/ }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Revoke" }).click();
  await until("it is of no use", () =>
    call("GET", "/me", undefined, secret ?? "").then(
      () => false,
      () => true,
    ),
  );
});

test("filters are in the address", async () => {
  const title = `Filter ${Date.now()}`;
  await newChat("[[say=x]]", { title });
  const page = await open("/cluster/chats");
  await page.getByRole("searchbox", { name: "Title contains" }).fill(title.toLowerCase());
  const rows = page.getByRole("row").filter({ hasText: title });
  await until("one is left", async () => (await rows.count()) === 1 && (await page.getByRole("row").count()) === 2);
  expect(page.url()).toContain("q=filter");
  await page.reload();
  await until("the same after a reload", async () => (await page.getByRole("row").count()) === 2);
});

test("the charts show what was done, and the time that was chosen is in the address", async () => {
  const { id } = await newChat("[[tokens=20 tps=0]]");
  await atRest(id);
  const page = await open("/cluster/charts?span=15m");
  const turns = page.getByRole("figure", { name: /^Turns/ });
  await until("a turn is drawn", async () => (await turns.locator("rect[x]").count()) > 0);
  await page
    .getByRole("figure", { name: "Time to the first token" })
    .getByText(/median: \d/)
    .waitFor();
  await page.getByRole("combobox", { name: "Time" }).selectOption("7d");
  await page.waitForURL(/span=7d/);
  await until("it is drawn among the steps of a week", async () => (await turns.locator("rect[x]").count()) > 0);
});
