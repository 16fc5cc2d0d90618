/** Takes the screenshots of the README anew, of a cluster of its own: scripts/screenshots. */

import { statSync } from "node:fs";
import { join } from "node:path";
import type { Locator, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { allReplicas, atRest, call, kill, log, newChat, open, ownerOf, preview, until } from "./page.ts";
import { startTools, type Tools } from "./tools.ts";

const DOCS = join(import.meta.dirname, "../../docs");
const BYTES_MAX = 100_000;
const VIEW = { width: 1100, height: 720 };

const ANSWER = `## A takeover, step by step
When a replica dies, its **session lock** is granted to a neighbour within milliseconds. Then:
1. The neighbour buries it: its chats are *pending* again.
2. Another replica claims them, with a new \`epoch\`.
3. The answer that was cut is gone on with.
\`\`\`python
async def claim(store: Store, worker: UUID) -> Chat | None:
    """Take the chat that waits longest."""
    chat = await store.claim(worker, limit=1)
    return chat  # the epoch is the fence
\`\`\`
| fault | noticed by | within |
|---|---|---|
| killed | session lock | 100 ms |
| frozen | lease | 6 s |
- [x] nothing lost
- [x] nothing twice
> Kill any replica, at any moment: this text goes on, on the next one, and whoever reads it sees no more of that than a line.`;

let tools: Tools;
beforeAll(async () => {
  tools = await startTools();
  await allReplicas();
  for (const title of ["Release notes for 0.2", "Why did the deploy fail?", "Ideas for the offsite"])
    await atRest((await newChat("[[say=Well.]]", { title })).id);
});
afterAll(() => void tools.process.kill());

/** The page as it is now, without what blinks. */
async function shoot(page: Page, name: string): Promise<void> {
  const path = join(DOCS, `page-${name}.png`);
  await page.screenshot({ path, animations: "disabled", caret: "hide" });
  expect(statSync(path).size, `${name} is small`).toBeLessThan(BYTES_MAX);
}

/** An answer in mid-stream whose owner was killed: it goes on. */
async function takenOver(view: { width: number; height: number; dark?: boolean }, said: RegExp): Promise<Page> {
  const { id } = await newChat(`[[tps=5 say=${ANSWER}]]`, { title: "How does a takeover work?" });
  const page = await open(`/chats/${id}`, view);
  await preview(page).getByText("noticed by").waitFor();
  kill((await ownerOf(id)).name);
  await page.getByText(/Its replica was lost: continued on replica-\d/).waitFor();
  await preview(page).getByText(said).waitFor();
  return page;
}

test("the answer of a replica that was killed goes on, in the light and in the dark", async () => {
  await shoot(await takenOver(VIEW, /Kill any/), "takeover");
  await allReplicas();
  await shoot(await takenOver({ width: 320, height: 640, dark: true }, /Kill any/), "narrow");
  await allReplicas();
});

test("the log of takeovers, and the list of replicas, one of which is gone", async () => {
  const page = await open("/cluster/takeovers", { width: 1100, height: 480 });
  const rows = page.getByRole("row").filter({ hasText: "replica lost" });
  await until("both takeovers are there, with their gaps", async () => {
    const texts = await rows.allTextContents();
    return texts.length >= 2 && texts.every((text) => /\d+(\.\d)? (ms|s)$/.test(text));
  });
  await shoot(page, "takeovers");
  const { id } = await newChat("[[tokens=100000 tps=40]]", { title: "Counting" });
  const { name } = await ownerOf(id);
  await page.getByRole("navigation", { name: "Cluster" }).getByRole("link", { name: "Replicas" }).click();
  await until(
    "three are active",
    async () => (await page.getByRole("row").filter({ hasText: "active" }).count()) === 3,
  );
  kill(name);
  await page.getByRole("row").filter({ hasText: "gone" }).filter({ hasText: name }).first().waitFor();
  await shoot(page, "replicas");
  await call("POST", `/chats/${id}/interrupt`);
  await allReplicas();
});

test("a call that waits to be approved", async () => {
  const server = { slug: "forecast", url: tools.address, availability: "always", approval: "ask" };
  await call("POST", "/admin/mcp-servers", server);
  const order = 'What is the weather like in Bern? [[call=forecast__weather {"city": "Bern", "days": 3}]]';
  const { id } = await newChat(order, { title: "What is the weather like?" });
  const page = await open(`/chats/${id}`, VIEW);
  await page.getByRole("region", { name: "Approval of forecast__weather" }).waitFor();
  await shoot(page, "approval");
  await call("POST", `/chats/${id}/interrupt`);
});

const SUITE = `import time, unittest
class Claims(unittest.TestCase):
    def test_epochs_grow(self): time.sleep(1)
    def test_one_owner(self): time.sleep(1)
    def test_nothing_twice(self): time.sleep(60)
`;
const GIT = "git init -qb main . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m begin";

test("a workspace in which a command runs, where there is one", async ({ skip }) => {
  const { hosts } = await call<{ hosts: { state: string; problem: string }[] }>("GET", "/admin/workspace-hosts");
  skip(hosts[0]?.state !== "ready", `No screenshot of a workspace: ${hosts[0]?.problem}`);
  const calls: [string, object][] = [
    ["create_workspace", { template_id: "default", name: "claims" }],
    ["execute", { command: GIT }],
    [
      "write_file",
      { path: "claims.py", content: "def claim(store, worker):\n    return store.claim(worker, limit=1)\n" },
    ],
    ["write_file", { path: "test_claims.py", content: SUITE }],
    ["execute", { command: "git add -N .; python3 -B -m unittest -v 2>&1", timeout: "2m" }],
  ];
  const order = calls.map(([name, given], at) => `[[step=${at + 1} call=${name} ${JSON.stringify(given)}]]`).join(" ");
  const { id } = await newChat(order, { title: "Write a claim, and test it" });
  const page = await open(`/chats/${id}`, { width: 1100, height: 740 });
  const card: Locator = page.getByRole("region", { name: "Workspace" });
  await card.getByText("2 files").waitFor();
  await card.getByRole("button", { expanded: false }).click();
  await card.getByRole("region", { name: "Changes" }).getByText("claims.py", { exact: true }).click();
  await log(page).getByRole("group", { name: "Output so far" }).getByText("test_one_owner").waitFor();
  await shoot(page, "workspace");
  await call("POST", `/chats/${id}/interrupt`);
});
