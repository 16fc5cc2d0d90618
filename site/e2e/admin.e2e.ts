/** What administrators do on the page to models and to servers of tools, and what users see of it. */

import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { atRest, call, cluster, log, open, say, until } from "./page.ts";
import { startTools, type Tools } from "./tools.ts";

let tools: Tools;
let address = "";

beforeAll(async () => {
  tools = await startTools();
  ({ address } = tools);
});
afterAll(() => void tools.process.kill());

const field = (page: Page, name: string | RegExp) => page.getByRole("dialog").getByLabel(name).first();
const row = (page: Page, text: string) => page.getByRole("row").filter({ hasText: text });
const toast = (page: Page, text: string) => page.getByRole("region", { name: "Notifications" }).getByText(text);

test("a server of tools is added, tested, used with approvals, and removed", async () => {
  const slug = `t${Date.now()}`;
  const page = await open("/cluster/tools");
  await page.getByRole("button", { name: "New server" }).click();
  await field(page, /^Slug/).fill(slug);
  await field(page, /^Address/).fill(address);
  await field(page, "Before a call").selectOption("ask");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await row(page, slug).waitFor();
  await page.getByRole("button", { name: `Test ${slug}` }).click();
  const report = page.getByRole("dialog", { name: `Test of ${slug}` });
  await report.getByText(/It answers, and has \d+ tools/).waitFor();
  await report.getByText(`${slug}__weather`, { exact: true }).waitFor();
  await report.getByRole("button", { name: "Done" }).click();
  await useWithApprovals(page, slug);
  await page.goto(`${cluster.url}/cluster/tools`);
  await page.getByRole("button", { name: `Remove ${slug}` }).click();
  await page
    .getByRole("alertdialog", { name: `Remove the server ${slug}?` })
    .getByRole("button", { name: "Remove" })
    .click();
  await toast(page, `The server ${slug} is removed.`).waitFor();
  await page.goto(`${cluster.url}/cluster/audit`);
  await row(page, slug).filter({ hasText: "mcp_server.create" }).waitFor();
  await row(page, slug).filter({ hasText: "mcp_server.delete" }).waitFor();
});

/** The model's call is asked about; approved as edited and for the chat, the next one is not. */
async function useWithApprovals(page: Page, slug: string): Promise<void> {
  const order = (text: string) => `[[mode=results]] [[call=${slug}__weather {"city":"${text}"}]]`;
  await page.goto(cluster.url);
  await page.getByRole("button", { name: "Options" }).click();
  await page.getByRole("checkbox", { name: new RegExp(`^${slug}`) }).check();
  await say(page, order("first"));
  const approval = page.getByRole("region", { name: `Approval of ${slug}__weather` });
  await approval.getByLabel("Arguments").fill('{"city": "edited"}');
  await approval.getByLabel("The next time").selectOption("chat");
  await approval.getByRole("button", { name: "Approve as edited" }).click();
  const id = page.url().split("/").at(-1) as string;
  await atRest(id);
  await log(page).getByText("edited").last().waitFor();
  await say(page, order("second"));
  await log(page).getByText("second").last().waitFor();
  await atRest(id);
  expect(await approval.count()).toBe(0);
  const cards = log(page)
    .locator("summary")
    .filter({ hasText: `${slug}__weather` });
  await until("both cards say that they are done, and how long it took", async () => {
    const texts = await cards.allTextContents();
    return texts.length === 2 && texts.every((text) => /done[\d.]+ (ms|s)$/.test(text));
  });
  await page.getByRole("button", { name: "Preferences" }).click();
  await page.getByRole("button", { name: `Ask about ${slug}__weather again` }).click();
  await until("it is asked about again", async () => {
    const { permissions } = await call<{ permissions: { tool: string }[] }>("GET", "/me/tool-permissions");
    return permissions.every(({ tool }) => tool !== `${slug}__weather`);
  });
}

test("a provider and its model are added, changed, made the default, disabled and removed; no key is shown", async () => {
  const name = `p${Date.now()}`;
  const key = "sk-never-to-be-seen-1234";
  const page = await open("/cluster/models");
  await page.getByRole("button", { name: "New provider" }).click();
  await field(page, "Name").fill(name);
  await field(page, /^Address/).fill("https://models.example/v1");
  await field(page, /^Key/).fill(key);
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await row(page, name).getByText("…1234").waitFor();
  await page.getByRole("button", { name: `Edit ${name}` }).click();
  await field(page, /^New key/).fill("sk-never-to-be-seen-5678");
  await page.getByRole("button", { name: "Save" }).click();
  await row(page, name).getByText("…5678").waitFor();
  await page.getByRole("button", { name: "New model" }).click();
  await field(page, /^Name/).fill(`${name}/large`);
  await field(page, "Provider").selectOption(name);
  await field(page, "Name at the provider").fill("large-1");
  await field(page, "Input").fill("2.5");
  await page.getByRole("button", { name: "Add", exact: true }).click();
  const model = row(page, `${name}/large`);
  await model.waitFor();
  const { models } = await call<{ models: { name: string; prices?: object }[] }>("GET", "/admin/models");
  expect(models.find((one) => one.name === `${name}/large`)?.prices).toEqual({ input: 2_500_000 });
  await page.getByRole("button", { name: `Disable ${name}/large` }).click();
  await model.getByText("disabled", { exact: true }).waitFor();
  await page.getByRole("button", { name: `Remove ${name}`, exact: true }).click();
  await page.getByRole("alertdialog").getByRole("button", { name: "Remove" }).click();
  await page
    .getByRole("alert")
    .getByText(/Remove failed: there are models/)
    .waitFor();
  for (const object of [`${name}/large`, name]) {
    await page.getByRole("button", { name: `Remove ${object}`, exact: true }).click();
    await page.getByRole("alertdialog").getByRole("button", { name: "Remove" }).click();
    await until(
      `${object} is gone`,
      async () => !(await page.getByRole("button", { name: `Edit ${object}`, exact: true }).count()),
    );
  }
  expect(await page.content()).not.toContain("never-to-be-seen");
  await page.goto(`${cluster.url}/cluster/audit`);
  await row(page, "provider.change").filter({ hasText: name }).waitFor();
  expect(await page.content()).not.toContain("never-to-be-seen");
});

test("what is refused is said in the form, and what was written stays", async () => {
  const page = await open("/cluster/tools");
  await page.getByRole("button", { name: "New server" }).click();
  await field(page, /^Slug/).fill("Not A Slug");
  await field(page, /^Address/).fill(address);
  await page.getByRole("button", { name: "Add", exact: true }).click();
  await page.getByRole("dialog").getByRole("alert").getByText(/slug/).waitFor();
  expect(await field(page, /^Slug/).inputValue()).toBe("Not A Slug");
});
