/** A chat that is summarised, is set up anew, and is gone on with at the very word. */

import { spawn } from "node:child_process";
import { expect, test } from "vitest";
import { expectAccessible } from "./accessible.ts";
import {
  allReplicas,
  atRest,
  call,
  cluster,
  history,
  kill,
  log,
  newChat,
  open,
  ownerOf,
  preview,
  say,
  stopAndCompare,
  until,
  wordsShown,
} from "./page.ts";

async function menu(page: Awaited<ReturnType<typeof open>>, item: string): Promise<void> {
  const main = page.getByRole("main");
  await main.getByRole("button", { name: /^Menu of/ }).click();
  await page.getByRole("menuitem", { name: item }).click();
}

test("a chat is summarised at a press: what was said stays, and the summary is shown as one", async () => {
  const { id } = await newChat("Of sheep [[say=They are white.]]");
  await atRest(id);
  const page = await open(`/chats/${id}`, { width: 320, height: 640 });
  await log(page).getByText("They are white.", { exact: true }).waitFor();
  await menu(page, "Summarise now");
  const summary = log(page).getByText("Summarised here, because somebody asked for it", { exact: false });
  await summary.waitFor();
  await atRest(id);
  await log(page).getByText("They are white.", { exact: true }).waitFor();
  await summary.click();
  await expectAccessible(page, "a summary");
  await page.reload();
  await summary.waitFor();
  await say(page, "Go on [[say=On and on.]]");
  await log(page).getByText("On and on.", { exact: true }).waitFor();
});

test("what a chat and its user tell the model is changed, and what the model is told is that", async () => {
  const { id } = await newChat("[[say=hi]]");
  await atRest(id);
  const page = await open(`/chats/${id}`, { dark: true });
  await menu(page, "Settings …");
  const form = page.getByRole("dialog", { name: "Settings of the chat" });
  await form.getByRole("textbox", { name: "Instructions to the model" }).fill("Rhyme <b>always</b>.");
  await form.getByRole("combobox").last().selectOption("false");
  await expectAccessible(page, "the settings of a chat");
  await form.getByRole("button", { name: "Save" }).click();
  await until("it is set", async () => {
    const now = await call<{ system_prompt: string; agents: boolean }>("GET", `/chats/${id}`);
    return now.system_prompt === "Rhyme <b>always</b>." && now.agents === false;
  });
  await page.getByRole("button", { name: "Preferences" }).click();
  const about = page.getByRole("textbox", { name: "About you" });
  await about.fill("Is a shepherd.");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.", { exact: false }).first().waitFor();
  await page.keyboard.press("Escape");
  await say(page, "[[mode=request]]");
  await atRest(id);
  await until("the model was told", async () => {
    const said = (await history(id)).at(-1)?.text ?? "";
    return said.includes("Rhyme <b>always</b>.") && said.includes("Is a shepherd.");
  });
  await call("PUT", "/me/prompt", { prompt: null });
});

test("an answer that another replica goes on with keeps every word", async () => {
  const model = spawn(cluster.python, ["-m", "chatcluster", "simulate-llm", "--port", "0"]);
  const name = `m${Date.now()}`;
  try {
    const port = await new Promise<string>((resolve, reject) => {
      const hear = (said: Buffer) =>
        /:(\d{4,5})\b/.exec(String(said))?.[1] && resolve(/:(\d{4,5})\b/.exec(String(said))?.[1] ?? "");
      model.stdout.on("data", hear);
      model.stderr.on("data", hear);
      model.once("exit", (code) => reject(new Error(`the model ended with ${code}`)));
    });
    await call("POST", "/admin/providers", { name, base_url: `http://127.0.0.1:${port}/v1` });
    const served = { name, provider: name, provider_model: "simulated", continuation: "prefix" };
    await call("POST", "/admin/models", served);
    await allReplicas();
    const { id } = await newChat("[[tokens=100000 tps=40]]", { model: name });
    const page = await open(`/chats/${id}`);
    await until("some words", async () => (await wordsShown(page)) > 20);
    await page.evaluate(() => {
      const seen = window as unknown as { least: number; most: number };
      Object.assign(seen, { least: Number.POSITIVE_INFINITY, most: 0 });
      setInterval(() => {
        const count = document.querySelector("[data-preview]")?.textContent?.match(/w\d+/g)?.length ?? 0;
        if (count < seen.most) seen.least = count;
        seen.most = Math.max(seen.most, count);
      }, 10);
    });
    kill((await ownerOf(id)).name);
    await page.getByText(/continued on replica-\d, at the very word/).waitFor();
    const before = await wordsShown(page);
    await until("more words", async () => (await wordsShown(page)) > before + 10);
    expect(await page.evaluate(() => (window as unknown as { least: number }).least)).toBe(Number.POSITIVE_INFINITY);
    await stopAndCompare(page, id);
    expect(await preview(page).count()).toBe(0);
  } finally {
    model.kill();
    await call("DELETE", `/admin/model?name=${name}`).catch(() => {});
    await call("DELETE", `/admin/providers/${name}`).catch(() => {});
    await allReplicas();
  }
});
