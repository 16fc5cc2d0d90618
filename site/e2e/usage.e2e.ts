/** What models cost, on the page: of an answer, a chat, oneself, everybody; and what happens when it was enough. */

import { expect, test } from "vitest";
import { expectAccessible } from "./accessible.ts";
import { atRest, call, composer, newChat, open, say, until } from "./page.ts";

test("tokens and cost are shown of a chat and of oneself", async () => {
  const { id } = await newChat("[[tokens=20 tps=0]]", { title: "What it costs" });
  await atRest(id);
  const page = await open(`/chats/${id}`, { width: 320, height: 640 });
  await page.getByRole("button", { name: /^Details/ }).click();
  const details = page.getByRole("dialog");
  await details
    .getByText(/^[\d,]+ in.*, [\d,]+ out/)
    .first()
    .waitFor();
  await details.getByText("not known: its model has no prices").first().waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Open the list of chats" }).click();
  await page.getByRole("button", { name: "Preferences" }).click();
  await page.getByRole("link", { name: "Usage and cost" }).click();
  await page.getByRole("heading", { name: "Usage" }).waitFor();
  await page.getByText(/Models were asked [\d,]+ times/).waitFor();
  await expectAccessible(page, "usage");
  await page.getByLabel("Grouped").selectOption("chat");
  await page.getByRole("link", { name: "What it costs" }).first().waitFor();
  expect(page.url()).toContain("by=chat");
});

test("an administrator sets a limit; who has reached it is told in words, and sends again when it is gone", async () => {
  const user = `spender${Date.now()}`;
  const { token } = await call<{ token: string }>("POST", "/admin/tokens", { user });
  const { id } = await call<{ id: string }>("POST", "/chats", { content: "[[tokens=20 tps=0]]" }, token);
  await until("it is answered", async () => {
    return (await call<{ status: string }>("GET", `/chats/${id}`, undefined, token)).status === "waiting";
  });
  const admin = await open("/cluster/usage", { dark: true });
  await admin.getByRole("row").filter({ hasText: user }).waitFor();
  await admin.getByRole("button", { name: "Set a limit" }).click();
  const form = admin.getByRole("dialog");
  await form.getByRole("combobox").first().selectOption("user");
  await form.getByRole("textbox", { name: "User" }).fill(user);
  await form.getByRole("spinbutton", { name: /^Tokens/ }).fill("5");
  await form.getByRole("button", { name: "Set", exact: true }).click();
  const row = admin.getByRole("row").filter({ hasText: `user ${user}` });
  await row.waitFor();
  await expectAccessible(admin, "usage of all, and limits");
  const page = await open(`/chats/${id}`, { token });
  const refused = page.getByRole("alert").filter({ hasText: "You have used up what you may spend this month" });
  await until("it is refused, on whatever replica", async () => {
    await say(page, "more");
    await until("it was sent, or not", async () => (await refused.count()) || !(await composer(page).inputValue()));
    return refused.count();
  });
  expect(await composer(page).inputValue()).toBe("more");
  await expectAccessible(page, "a limit that is reached");
  await row.getByRole("button", { name: /^Remove/ }).click();
  await admin.getByRole("alertdialog").getByRole("button", { name: "Remove" }).click();
  await until("there is room again", async () => {
    if (await composer(page).inputValue()) await composer(page).press("Enter");
    await until("it was sent, or not", async () => !(await composer(page).isDisabled()));
    return !(await composer(page).inputValue());
  });
});
