/** What the server of a tool asks the user: a form on the page, over a reload and the death of its replica. */

import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { expectAccessible, VIEWS } from "./accessible.ts";
import { allReplicas, atRest, call, chatNow, kill, log, newChat, open, ownerOf, tabTo, until } from "./page.ts";
import { startTools, type Tools } from "./tools.ts";

/** A server that ends the call with its question, and one that holds it. */
const ENDS = `ends${Date.now()}`;
const HOLDS = `holds${Date.now()}`;

let tools: Tools;
beforeAll(async () => {
  tools = await startTools();
  await call("POST", "/admin/mcp-servers", { slug: ENDS, url: tools.address });
  await call("POST", "/admin/mcp-servers", {
    slug: HOLDS,
    url: tools.address.replace(/mcp$/, "sse"),
    transport: "sse",
    approval: "ask",
  });
});
afterAll(async () => {
  for (const slug of [ENDS, HOLDS]) await call("DELETE", `/admin/mcp-servers/${slug}`);
  tools.process.kill();
});

const asking = (slug: string, tool: string) =>
  newChat(`[[mode=results]] [[call=${slug}__${tool} {}]]`, { mcp_servers: [slug] });
const form = (page: Page) => page.getByRole("form", { name: /^Questions of/ });
const answered = (page: Page, text: string | RegExp) => log(page).getByText(text).last().waitFor();
const gone = (page: Page) => until("the form is gone", async () => !(await form(page).count()));

describe("what a server asks", () => {
  test.each(VIEWS)("is answered in a form, by keyboard alone: %s", async (_, view) => {
    const { id } = await asking(ENDS, "order");
    const page = await open(`/chats/${id}`, view);
    await form(page).getByText("What shall it be?").waitFor();
    await expectAccessible(page, "a form");
    await page.reload();
    await tabTo(page, form(page).getByRole("textbox"));
    await page.keyboard.press("Enter");
    expect(await form(page).locator(":invalid").count(), "what is required is asked for").toBeGreaterThan(0);
    await page.keyboard.type("Ada");
    await page.keyboard.press("Tab");
    await page.keyboard.type("large");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Control+A");
    await page.keyboard.type("3");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Space");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await answered(page, /accept: Ada, large, 3, True/);
    await gone(page);
    expect(await page.evaluate(() => "hit" in window)).toBe(false);
    await atRest(id);
  });

  test("is declined, and may be a page to go to", async () => {
    const { id } = await asking(ENDS, "order");
    const page = await open(`/chats/${id}`);
    await tabTo(page, form(page).getByRole("button", { name: "Decline" }));
    await page.keyboard.press("Enter");
    await answered(page, "decline");
    await gone(page);
    await page.goto(page.url().replace(id, (await asking(ENDS, "visit")).id));
    const link = form(page).getByRole("link");
    await link.waitFor();
    expect(await link.getAttribute("href")).toBe("https://example.org/agree");
    expect(await link.getAttribute("rel")).toBe("noreferrer noopener");
    await form(page).getByRole("button", { name: "Answer" }).click();
    await answered(page, "visited");
  });

  test("while it holds the call is void with the replica that called: one is asked whether to call again", async () => {
    await allReplicas();
    const { id } = await asking(HOLDS, "ask");
    const page = await open(`/chats/${id}`);
    const approval = page.getByRole("region", { name: `Approval of ${HOLDS}__ask` });
    await approval.getByRole("button", { name: "Approve" }).click();
    await form(page).getByText("Your name?").waitFor();
    expect((await chatNow(id)).status).toBe("running");
    kill((await ownerOf(id)).name);
    await approval.getByText("It may have run already", { exact: false }).waitFor();
    expect(await form(page).count()).toBe(0);
    await approval.getByRole("button", { name: "Approve" }).click();
    await form(page).getByRole("textbox").fill("Ada");
    await form(page).getByRole("button", { name: "Answer" }).click();
    await answered(page, /accept/);
    await gone(page);
    await atRest(id);
    await allReplicas();
  });
});
