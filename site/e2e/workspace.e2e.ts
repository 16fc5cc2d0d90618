/** The workspace of a chat on its page, with a real sandbox: how it is, what runs in it, what has changed. */

import type { Locator, Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import { expectAccessible, VIEWS } from "./accessible.ts";
import { atRest, call, cluster, newChat, open, until } from "./page.ts";

type Host = { state: string; problem: string | null };
const hostsNow = async () => (await call<{ hosts: Host[] }>("GET", "/admin/workspace-hosts")).hosts;

/** Why there are no workspaces here; an empty text where there are. */
async function whyNot(): Promise<string> {
  await until("a host says how it is", async () => (await hostsNow()).length > 0);
  const [host] = await hostsNow();
  return host?.state === "ready" ? "" : host?.problem || "the host is not ready";
}

const unable = await whyNot();
if (unable) console.log(`Not tried: workspaces on the page. ${unable}`);

const GIT = "git init -qb main . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m begin";
const HOSTILE = "<img src=x onerror='window.hit=1'>\u202Egnp";

const orders = (...calls: [string, object][]) =>
  calls.map(([name, given], at) => `[[step=${at + 1} call=${name} ${JSON.stringify(given)}]]`).join(" ");

/** A chat with a workspace in which a program runs until it is stopped, and two files have changed. */
async function working(): Promise<string> {
  const { id } = await newChat(
    orders(
      ["create_workspace", { template_id: "default" }],
      ["write_file", { path: "a.py", content: "print(1)\n" }],
      ["execute", { command: `${GIT} && git add -A && git -c user.name=a -c user.email=a@b commit -qm more` }],
      ["write_file", { path: "a.py", content: `print(2)\n# ${HOSTILE}\n` }],
      ["write_file", { path: `${HOSTILE.replaceAll("/", "")}.txt`, content: "x" }],
    ),
  );
  await atRest(id);
  return id;
}

const card = (page: Page): Locator => page.getByRole("region", { name: "Workspace" });
const isHit = (page: Page) => page.evaluate(() => "hit" in window);

describe.skipIf(unable)("a chat that works in a workspace", () => {
  test("shows it from the moment on at which it is made", async () => {
    const { id } = await newChat("[[say=begin]]");
    const page = await open(`/chats/${id}`);
    await page.getByRole("log").getByText("begin").last().waitFor();
    expect(await card(page).count()).toBe(0);
    await call("POST", `/chats/${id}/messages`, { content: orders(["create_workspace", { template_id: "default" }]) });
    await card(page).getByRole("status").getByText("running").waitFor();
  });

  test("shows what a command prints while it prints it, and what it changed", async () => {
    const id = await working();
    const page = await open(`/chats/${id}`);
    await card(page).getByText("2 files").waitFor();
    await card(page).getByRole("button", { expanded: false }).click();
    const changes = card(page).getByRole("region", { name: "Changes" });
    await changes.getByText("2 files on main").waitFor();
    await changes.getByText("a.py").click();
    await changes.getByText("+print(2)").waitFor();
    await changes.getByText("⟨U+202E⟩gnp.txt").waitFor();
    const command = `for i in $(seq 1000); do echo "line $i ${HOSTILE.replaceAll("'", "")}"; sleep 0.2; done`;
    const message = orders(["execute", { command, timeout: "5m" }]);
    await call("POST", `/chats/${id}/messages`, { content: message });
    await page.getByRole("log").getByText("line 5 ").waitFor();
    await card(page).getByRole("region", { name: "Running now" }).getByText("line 5 ").waitFor();
    expect(await isHit(page)).toBe(false);
    await page.getByRole("button", { name: "Stop", exact: true }).click();
    await atRest(id);
    await until("nothing runs", async () => !(await card(page).getByRole("region", { name: "Running now" }).count()));
  });

  test("is told of a change within seconds, also in the list's stream", async () => {
    const id = await working();
    const page = await open(`/chats/${id}`);
    await card(page).getByText("2 files").waitFor();
    await call("POST", `/chats/${id}/messages`, {
      content: orders(["write_file", { path: "more.txt", content: "x" }]),
    });
    await card(page).getByText("3 files").waitFor();
    expect(await page.getByRole("navigation").locator(`a[href="/chats/${id}"]`).count()).toBe(1);
  });

  test("stops and starts it, by keyboard alone", async () => {
    const id = await working();
    const page = await open(`/chats/${id}`);
    await card(page)
      .getByRole("button", { name: /^Stop / })
      .focus();
    await page.keyboard.press("Enter");
    await card(page).getByRole("status").getByText("stopped").waitFor();
    await card(page)
      .getByRole("button", { name: /^Start / })
      .focus();
    await page.keyboard.press("Enter");
    await card(page).getByRole("status").getByText("running").waitFor();
  });

  test.each(VIEWS)("is accessible: %s", async (_, view) => {
    const id = await working();
    const page = await open(`/chats/${id}`, view);
    await card(page).getByRole("status").getByText("running").waitFor();
    await expectAccessible(page, "one line");
    await card(page).getByRole("button", { expanded: false }).click();
    await card(page).getByText("a.py").click();
    await card(page).getByText("+print(2)").waitFor();
    await card(page).getByText("Log of its making").click();
    await card(page)
      .getByText(/^host|^start|Nothing was said/)
      .first()
      .waitFor();
    await expectAccessible(page, "opened, with a file's changes");
    if (process.env.SHOTS)
      await page.screenshot({
        path: `${process.env.SHOTS}/workspace-${view.width ?? (view.dark ? "dark" : "light")}.png`,
      });
  });
});

test("nothing of workspaces is loaded for a chat that has none", async () => {
  const { id } = await newChat("[[say=begin]]");
  await atRest(id);
  const page = await open("/");
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(`${cluster.url}/chats/${id}`);
  await page.getByRole("log").getByText("begin").last().waitFor();
  await until("it is followed", () => asked.some((url) => url.includes("/watch?chat=")));
  expect(asked.filter((url) => /WorkspaceCard|\/workspaces|diff/.test(url))).toEqual([]);
});
