/** Every state, in both colour schemes and on a narrow screen, against axe's rules. */

import { describe, expect, test } from "vitest";
import { expectAccessible, VIEWS } from "./accessible.ts";
import { atRest, call, cluster, composer, newChat, open, until, wordsShown } from "./page.ts";

const MARKDOWN = "# Head\n- item\n- [ ] task\n> quote\n```python\nx = 1  # y\n```\n| a | b |\n|---|---|\n| 1 | 2 |";

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

  test("on paper all of a chat stands, and nothing that one presses", async () => {
    const { id } = await newChat(`[[say=${"A paragraph.\n\n".repeat(100)}The end.]]`, { title: "Paper" });
    await atRest(id);
    const page = await open(`/chats/${id}`, view);
    await page.getByText("The end.").first().waitFor();
    await page.emulateMedia({ media: "print" });
    const isCut = () =>
      page.evaluate(() =>
        [...document.querySelectorAll("*")].some(
          (box) =>
            !box.matches(".sr-only") &&
            box.scrollHeight > box.clientHeight + 1 &&
            /auto|scroll|hidden/.test(getComputedStyle(box).overflowY),
        ),
      );
    await until("nothing is cut", async () => !(await isCut()));
    expect(await page.evaluate(() => document.documentElement.scrollHeight)).toBeGreaterThan(1500);
    for (const name of [/^Details/, "Send"]) {
      expect(await page.getByRole("button", { name }).isVisible()).toBe(false);
    }
    expect(await composer(page).isVisible()).toBe(false);
  });

  test("a new chat with its options, and the list", async () => {
    const page = await open("/", view);
    await composer(page).waitFor();
    await page.getByRole("button", { name: "Options" }).click();
    await page.locator('input[type="file"]').setInputFiles([
      { name: "a-name-that-is-rather-long-for-its-place.md", mimeType: "text/plain", buffer: Buffer.from("x") },
      { name: "x.exe", mimeType: "text/plain", buffer: Buffer.from([0, 1, 2]) },
    ]);
    await page.getByText("1 of 2 files cannot be attached.").waitFor({ state: "attached" });
    await expectAccessible(page, "options, and attached files");
    if (view.width) {
      const opener = page.getByRole("button", { name: "Open the list of chats" });
      await opener.click();
      await page.locator("nav :focus").waitFor();
      await page.keyboard.press("Escape");
      await until("the focus is back", () => opener.evaluate((button) => button === document.activeElement));
      await opener.click();
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
    for (const name of [
      "Replicas",
      "Charts",
      "Chats",
      "Takeovers",
      "Models",
      "Tools",
      "Usage",
      "Users",
      "Tokens",
      "Audit",
    ]) {
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
    for (const path of ["/cluster/nowhere", "/nowhere"]) {
      await page.goto(cluster.url + path);
      await page.getByText("There is nothing at this address").waitFor();
      await expectAccessible(page, path);
    }
  });
});
