/** Sub-agents on the page: what they say as they say it, how they are, and what they ask for. */

import type { Page } from "playwright-core";
import { afterEach, expect, test } from "vitest";
import { expectAccessible } from "./accessible.ts";
import { allReplicas, atRest, call, kill, log, newChat, open, ownerOf, until } from "./page.ts";
import { startTools } from "./tools.ts";

const TITLE = "Counts <b>sheep</b>";

/** An order within an order: in JSON, as two brackets in a row would end the outer one. */
const order = (inner: string) => `[[${inner}]\\u005d`;
const spawning = (prompt: string) =>
  `[[call=spawn_agent {"prompt": "${prompt}", "title": "${TITLE}"}]] ` +
  `[[step=2 call=wait_agent {"chat_id": "$agent1"}]] [[step=3 say=All is counted.]]`;

const card = (page: Page) => log(page).getByRole("button", { name: /^Agent: / });
const work = (page: Page) => log(page).getByRole("region", { name: `What ${TITLE} does` });
const words = async (page: Page) => ((await work(page).textContent()) ?? "").match(/w\d+/g)?.length ?? 0;

afterEach(() => allReplicas());

test("an agent's words come as it says them, over a reload and its owner's death; it is stopped from its card", async () => {
  const { id } = await newChat(spawning(order("tokens=100000 tps=40")), { agents: true });
  const page = await open(`/chats/${id}`, { width: 320, height: 640 });
  await card(page).getByText("at work").waitFor();
  await until("its words come", async () => (await words(page)) > 10);
  await expectAccessible(page, "an agent at work");
  const { chats } = await call<{ chats: { id: string }[] }>("GET", `/chats/${id}/children`);
  const agent = chats[0]?.id as string;
  await page.reload();
  await until("they come again", async () => (await words(page)) > 10);
  const owner = await ownerOf(agent);
  kill(owner.name);
  await until("another replica takes it up", async () => (await ownerOf(agent)).worker_id !== owner.worker_id);
  const before = await words(page); // its dead owner's, or some of the next one's
  await until("it begins anew", async () => (await words(page)) > before + 40);
  await page.getByRole("button", { name: `Stop ${TITLE}` }).press("Enter");
  await card(page).getByText("stopped").waitFor();
  await log(page).getByText("All is counted.", { exact: true }).waitFor();
  await atRest(id);
  await card(page).press("Enter");
  await work(page).waitFor();
  await page.getByRole("link", { name: "Open", exact: true }).click();
  await page.waitForURL(new RegExp(agent));
  await page.getByText("Stopped here.").waitFor();
  await page.getByRole("link", { name: "Agent of" }).click();
  await page.waitForURL(new RegExp(id));
});

test("what an agent asks is answered at the chat that it works for", async () => {
  const tools = await startTools();
  const slug = `a${Date.now()}`;
  try {
    const server = { slug, url: tools.address, approval: "ask" };
    await call("POST", "/admin/mcp-servers", server);
    const asking = order(`mode=results call=${slug}__weather {\\"city\\": \\"Bern\\"}`);
    const { id } = await newChat(spawning(asking), { agents: true, mcp_servers: [slug] });
    const page = await open(`/chats/${id}`, { dark: true });
    await card(page).getByText("waits for you").waitFor();
    const approval = page.getByRole("region", { name: `Approval of ${slug}__weather` });
    await approval.getByRole("link", { name: TITLE }).waitFor();
    await expectAccessible(page, "an agent that asks");
    await approval.getByRole("button", { name: "Approve" }).click();
    await log(page).getByText("All is counted.", { exact: true }).waitFor();
    await card(page).getByText("done").waitFor();
    await card(page).click();
    await work(page).getByText(/Bern/).last().waitFor();
    expect(await approval.count()).toBe(0);
  } finally {
    tools.process.kill();
    await call("DELETE", `/admin/mcp-servers/${slug}`).catch(() => {});
  }
});
