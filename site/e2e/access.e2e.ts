/** Every state, in both colour schemes and on a narrow screen, against axe's rules. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import { atRest, call, composer, newChat, open, until, type View, wordsShown } from "./page.ts";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const VIEWS: [string, View][] = [
  ["light", {}],
  ["dark", { dark: true }],
  ["narrow", { width: 320, height: 640 }],
];
const MARKDOWN = "# Head\n- item\n- [ ] task\n> quote\n```python\nx = 1  # y\n```\n| a | b |\n|---|---|\n| 1 | 2 |";

type Violation = { id: string; nodes: { html: string; failureSummary: string }[] };

/** Without the guards that hand the focus on at the edges of a layer: they are hidden and focusable, which is their work. */
async function expectAccessible(page: Page, state: string): Promise<void> {
  await page.evaluate(AXE);
  // What fades in has no contrast yet; what turns for ever is left to turn.
  await page.waitForFunction(() =>
    document
      .getAnimations()
      .every((one) => one.playState !== "running" || one.effect?.getTiming().iterations === Infinity),
  );
  const { violations } = await page.evaluate(() =>
    (window as unknown as { axe: { run: (what: object) => Promise<{ violations: Violation[] }> } }).axe.run({
      exclude: [["[data-base-ui-focus-guard]"]],
    }),
  );
  const told = violations.map(
    ({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("\n")}`,
  );
  expect(told, state).toEqual([]);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(wider, `${state}: scrolls sideways`).toBeLessThanOrEqual(0);
}

describe.each(VIEWS)("%s", (_, view) => {
  test("sign-in, and its error", async () => {
    const page = await open("/", { ...view, token: "" });
    await page.getByLabel("Token").fill("ccl_wrong");
    await expectAccessible(page, "sign-in");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").waitFor();
    await expectAccessible(page, "wrong token");
  });

  test("a chat as it answers, rests, fails; its menu and dialogs", async () => {
    const { id } = await newChat(`[[say=${MARKDOWN}]]`, {
      title: "A chat with a title that is rather long for its place",
    });
    await atRest(id);
    const page = await open(`/chats/${id}`, view);
    await page.locator("blockquote").waitFor();
    await until("the code has its colours", async () => (await page.locator("pre span[style]").count()) > 0);
    await expectAccessible(page, "an answer");
    await page
      .getByRole("main")
      .getByRole("button", { name: /^Menu of/ })
      .click();
    await page.getByRole("menuitem", { name: "Rename" }).waitFor();
    await expectAccessible(page, "a menu");
    await page.getByRole("menuitem", { name: "Rename" }).click();
    await page.getByRole("dialog").waitFor();
    await expectAccessible(page, "a dialog");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: /^Details/ }).click();
    await page.getByRole("dialog").waitFor();
    await expectAccessible(page, "details");
    await page.keyboard.press("Escape");
    await call("POST", `/chats/${id}/messages`, { content: "[[tokens=100000 tps=40 reasoning=5]]" });
    await call("POST", `/chats/${id}/messages`, { content: "queued [[fail=401]]" });
    await until("words come", () => wordsShown(page));
    await expectAccessible(page, "an answer that grows, and a queue");
    await page.getByRole("button", { name: "Stop", exact: true }).click();
    await page.getByRole("alert").filter({ hasText: "The answer failed" }).waitFor();
    await expectAccessible(page, "a failed answer");
  });

  test("a new chat with its options, and the list", async () => {
    const page = await open("/", view);
    await composer(page).waitFor();
    await page.getByRole("button", { name: "Options" }).click();
    await expectAccessible(page, "options");
    if (view.width) {
      await page.getByRole("button", { name: "Open the list of chats" }).click();
      await page.getByRole("navigation").waitFor();
      await expectAccessible(page, "the list over the page");
    }
    await page.getByRole("button", { name: "Preferences" }).click();
    await page.getByRole("dialog").waitFor();
    await expectAccessible(page, "preferences");
    await page.getByRole("button", { name: "Keys" }).click();
    await page.getByRole("dialog", { name: "Keys" }).waitFor();
    await expectAccessible(page, "keys");
  });

  test("the cluster", async () => {
    const page = await open("/cluster/replicas", view);
    for (const name of ["Replicas", "Charts", "Chats", "Takeovers", "Models", "Tools", "Users", "Tokens", "Audit"]) {
      await page.getByRole("navigation", { name: "Cluster" }).getByRole("link", { name }).click();
      await page.getByRole("heading", { name }).waitFor();
      await page
        .getByRole("table")
        .or(page.getByRole("figure"))
        .or(page.getByText(/^No (takeover|chat|provider|server)|Nothing was/))
        .first()
        .waitFor();
      await expectAccessible(page, name);
    }
  });
});
