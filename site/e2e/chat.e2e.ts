import type { Locator } from "playwright-core";
import { describe, expect, test } from "vitest";
import {
  atRest,
  call,
  chatNow,
  composer,
  ENDLESS,
  expectHistory,
  history,
  inList,
  log,
  newChat,
  open,
  preview,
  queueOf,
  say,
  stopAndCompare,
  tabOf,
  tabTo,
  until,
  wordsShown,
} from "./page.ts";

const idIn = (url: string) => /\/chats\/([0-9a-f-]+)/.exec(url)?.[1] as string;

describe("a chat", () => {
  test("is begun, and its answer streams to its end", async () => {
    const page = await open("/");
    await say(page, "Hello [[tokens=200 tps=40]]");
    await page.waitForURL(/\/chats\//);
    await log(page).getByText("w0 w1 w2").waitFor();
    await page.getByText("Answer complete").waitFor({ state: "attached" });
    await expectHistory(page, idIn(page.url()));
    expect(await page.title()).toContain("Hello");
    await inList(page, (list) =>
      list.getByRole("list", { name: "Chats", exact: true }).getByText("Hello").first().waitFor(),
    );
    expect(await composer(page).inputValue()).toBe("");
  });

  test("that is reloaded in mid-answer goes on where it is, and can be stopped", async () => {
    const page = await open("/");
    await say(page, `Reload ${ENDLESS}`);
    await until("some words", async () => (await wordsShown(page)) > 10);
    await page.reload();
    await until("more words than before", async () => (await wordsShown(page)) > 15);
    await stopAndCompare(page, idIn(page.url()));
    await page.getByText("Stopped here.").waitFor();
  });

  test("stops at Escape", async () => {
    const { id } = await newChat(ENDLESS);
    const page = await open(`/chats/${id}`);
    await until("words come", () => wordsShown(page));
    await composer(page).press("Escape");
    await page.getByText("Stopped here.").waitFor();
  });

  test("is edited: what follows is replaced", async () => {
    const { id } = await newChat("First [[say=one]]");
    await atRest(id);
    const page = await open(`/chats/${id}`);
    await page.getByText("one", { exact: true }).waitFor();
    await composer(page).press("ArrowUp");
    await page.getByRole("textbox", { name: "Edit message" }).fill("Second [[say=two]]");
    await page.keyboard.press("Enter");
    await page.getByText("two", { exact: true }).waitFor();
    expect(await page.getByText("one", { exact: true }).count()).toBe(0);
    await atRest(id);
    await expectHistory(page, id);
  });

  test("queues what is written meanwhile: to be edited, deleted, sent at once", async () => {
    const { id } = await newChat(ENDLESS);
    const page = await open(`/chats/${id}`);
    await until("words come", () => wordsShown(page));
    const queue = page.getByRole("region", { name: "Queue" });
    for (const text of ["one [[say=A]]", "two [[say=B]]", "three [[say=C]]"]) {
      await say(page, text);
      await queue.getByText(text).waitFor();
    }
    expect(await log(page).getByText("one [[say=A]]").count()).toBe(0);
    const row = (text: string) => queue.getByRole("listitem").filter({ hasText: text });
    await row("one").getByRole("button", { name: "Take out" }).click();
    await until("it is gone", async () => (await row("one").count()) === 0);
    await row("two").getByRole("button", { name: "Edit" }).click();
    await page.getByRole("dialog").getByRole("textbox").fill("2 [[say=B]]");
    await page.getByRole("button", { name: "Save" }).click();
    await row("2 [[say=B]]").waitFor();
    await row("three").getByRole("button", { name: "Send now" }).click();
    await until("all is answered", async () => !(await queueOf(id)).length && (await chatNow(id)).status === "waiting");
    expect((await history(id)).filter(({ role }) => role === "user").map(({ text }) => text)).toEqual([
      ENDLESS,
      "three [[say=C]]",
      "2 [[say=B]]",
    ]);
    await expectHistory(page, id);
  });

  test("keeps the draft over a reload, and each chat its own", async () => {
    const { id } = await newChat("[[say=x]]");
    const page = await open(`/chats/${id}`);
    await composer(page).fill("half a thought");
    await page.reload();
    await until("the draft is there", async () => (await composer(page).inputValue()) === "half a thought");
    await inList(page, (list) => list.locator('a[href="/"]').click());
    await until("nothing is written there", async () => (await composer(page).inputValue()) === "");
    await page.goBack();
    await until("the draft is back", async () => (await composer(page).inputValue()) === "half a thought");
  });

  test("that is begun slowly takes nobody away from where they went meanwhile", async () => {
    const { id } = await newChat("[[say=x]]", { title: `Elsewhere ${Date.now()}` });
    const page = await open("/");
    let letGo = () => {};
    const held = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    await page.route(/\/api\/v1\/chats$/, async (route) => {
      if (route.request().method() === "POST") await held;
      await route.continue();
    });
    await say(page, "Slow [[say=begun]]");
    await inList(page, (list) => list.locator(`a[href="/chats/${id}"]`).first().click());
    await page.getByRole("heading", { name: /^Elsewhere/ }).waitFor();
    letGo();
    const kept = () => localStorage.getItem("chatcluster.draft.new");
    await until("it was taken", async () => (await page.evaluate(kept)) === null);
    expect(idIn(page.url())).toBe(id);
  });

  test("is shown alike by two browsers and four tabs of one", async () => {
    const { id } = await newChat(ENDLESS);
    const first = await open(`/chats/${id}`);
    const pages = [first, await open(`/chats/${id}`, { dark: true })];
    for (let tab = 0; tab < 3; tab++) pages.push(await tabOf(first.context(), `/chats/${id}`));
    for (const page of pages) await until("words come", () => wordsShown(page));
    await stopAndCompare(first, id);
    for (const page of pages) await expectHistory(page, id);
  });
});

describe("what goes wrong is told in words", () => {
  test("a model that fails is tried again, with the time until then", async () => {
    const page = await open("/");
    await say(page, "Retry [[fail=503 retry_after=15 times=1]] [[say=fine]]");
    await page.getByText(/The model .*failed/).waitFor();
    await page.getByText(/Attempt 2/).waitFor();
    await page.getByText("fine", { exact: true }).waitFor();
    const id = idIn(page.url());
    await atRest(id);
    await expectHistory(page, id);
  });

  test("a turn that failed says why, and is tried again at a press", async () => {
    const { id } = await newChat("Fail [[fail=401]]");
    const page = await open(`/chats/${id}`);
    const alert = page.getByRole("alert").filter({ hasText: "The answer failed" });
    await alert.waitFor();
    await alert.getByRole("button", { name: "Try again" }).click();
    await until("it failed again", async () => {
      const said = await history(id);
      return said.length === 1 && (await chatNow(id)).status === "error";
    });
    await alert.waitFor();
  });

  test("a chat that is not there", async () => {
    const page = await open("/chats/00000000-0000-4000-8000-000000000000");
    await page.getByText("There is no such chat").waitFor();
    await page.goto(page.url().replace(/chats.*/, "chats/nonsense"));
    await page.getByText("There is no such chat").waitFor();
    const { id } = await newChat("[[say=x]]");
    await atRest(id);
    const other = await open(`/chats/${id}`);
    await composer(other).waitFor();
    await call("DELETE", `/chats/${id}`);
    await other.getByText("There is no such chat").waitFor();
  });
});

describe("the list", () => {
  test("renames, pins, archives, finds and deletes, and shows what happens elsewhere", async () => {
    const name = `List ${Date.now()}`;
    const { id } = await newChat("[[say=x]]", { title: name });
    const page = await open(`/chats/${id}`);
    const menu = async (item: string) => {
      await page
        .getByRole("main")
        .getByRole("button", { name: /^Menu of/ })
        .click();
      await page.getByRole("menuitem", { name: item }).click();
    };
    await menu("Rename");
    await page.getByRole("dialog").getByRole("textbox", { name: "Title" }).fill(`${name} renamed`);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: `${name} renamed` }).waitFor();
    const isListed = (label: "Chats" | "Pinned chats") =>
      inList(page, (list) =>
        list.getByRole("list", { name: label, exact: true }).getByText(`${name} renamed`).waitFor(),
      );
    await menu("Pin");
    await isListed("Pinned chats");
    await menu("Unpin");
    await isListed("Chats"); // else what is done elsewhere may come first, and this undo it
    for (const pinned of [true, false]) {
      await call("PATCH", `/chats/${id}`, { pinned });
      await isListed(pinned ? "Pinned chats" : "Chats");
    }
    await menu("Archive");
    await page.getByText("This chat is archived").waitFor();
    await inList(page, async (list) => {
      await list.getByRole("button", { name: "Archived chats" }).click();
      await list.getByRole("list", { name: "Archived chats" }).getByText(`${name} renamed`).waitFor();
      await list.getByRole("button", { name: "Archived chats" }).click();
    });
    await page.getByRole("main").getByRole("button", { name: "Unarchive" }).click();
    await composer(page).waitFor();
    await page.keyboard.press("Control+K");
    await page.locator("input:focus").waitFor();
    await page.keyboard.type(`${name} REN`.toLowerCase());
    const hits = page.getByRole("list", { name: "Chats", exact: true }).getByRole("listitem");
    await until("one is found", async () => (await hits.count()) === 1);
    await call("PATCH", `/chats/${id}`, { title: `${name} renamed elsewhere` });
    await hits.getByText("elsewhere").waitFor();
    await page.keyboard.press("Escape"); // empties the field
    await page.keyboard.press("Escape"); // closes the list that lies over the page
    await menu("Delete …");
    await page.getByRole("alertdialog").getByRole("button", { name: "Delete" }).click();
    await page.waitForURL(/\/$/);
    await inList(page, () => until("it is gone", async () => !(await hits.filter({ hasText: name }).count())));
  });

  test("a chat that answers is stopped and deleted", async () => {
    const { id } = await newChat(ENDLESS, { title: "Delete me" });
    const page = await open(`/chats/${id}`);
    await until("words come", () => wordsShown(page));
    await page
      .getByRole("main")
      .getByRole("button", { name: /^Menu of/ })
      .click();
    await page.getByRole("menuitem", { name: "Delete …" }).click();
    await page.getByRole("alertdialog").getByRole("button", { name: "Delete" }).click();
    await page.waitForURL(/\/$/);
    await expect(chatNow(id)).rejects.toThrow("404");
  });
});

describe("by keyboard alone", () => {
  test("one begins a chat, goes through its messages, and opens help", async () => {
    const page = await open("/");
    await page.locator("textarea:focus").waitFor(); // what is typed before goes nowhere
    await page.keyboard.type("Keys [[say=answer]]");
    await page.keyboard.press("Enter");
    await page.getByText("answer", { exact: true }).waitFor();
    await until("it is no preview any more", async () => (await page.locator("[data-message]").count()) === 2);
    await page.locator("[data-message]").last().focus();
    await page.keyboard.press("ArrowUp");
    expect(await page.evaluate(() => document.activeElement?.getAttribute("aria-label"))).toBe("You");
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keys" }).waitFor();
    await page.keyboard.press("Escape");
    await until("it is closed", async () => (await page.getByRole("dialog").count()) === 0);
    await page.locator("[data-message]").last().focus();
    await page.keyboard.press("g");
    await page.keyboard.press("w");
    await page.waitForURL(/cluster\/replicas/);
    await page.keyboard.press("Control+K");
    await page.locator("input:focus").waitFor();
    await page.keyboard.press("Control+Shift+O");
    await page.waitForURL(/\/$/);
    await page.locator("textarea:focus").waitFor();
    expect(await preview(page).count()).toBe(0);
  });

  test("one stops an answer, edits, deletes and sends what waits, chooses a model, and does all that a menu has", async () => {
    const title = `Keys ${Date.now()}`;
    const { id } = await newChat(ENDLESS, { title });
    const page = await open(`/chats/${id}`);
    const main = page.getByRole("main");
    const press = async (target: Locator) => {
      await tabTo(page, target);
      await page.keyboard.press("Enter");
    };
    const menu = async (item: string) => {
      await press(main.getByRole("button", { name: /^Menu of/ }));
      await page.getByRole("menu").waitFor();
      const wanted = page.getByRole("menuitem", { name: item });
      await until(`${item} is reached`, async () => {
        if (await wanted.evaluate((one) => one === document.activeElement)) return true;
        await page.keyboard.press("ArrowDown");
      });
      await page.keyboard.press("Enter");
    };
    await until("words come", () => wordsShown(page));
    const queue = page.getByRole("region", { name: "Queue" });
    const row = (text: string) => queue.getByRole("listitem").filter({ hasText: text });
    for (const text of ["one [[say=A]]", "two [[say=B]]", "three [[say=C]]"]) {
      await tabTo(page, composer(page));
      await page.keyboard.type(text);
      await page.keyboard.press("Enter");
      await row(text).waitFor();
    }
    await press(row("one").getByRole("button", { name: "Take out" }));
    await until("it is gone", async () => (await row("one").count()) === 0);
    await press(row("two").getByRole("button", { name: "Edit" }));
    await page.getByRole("dialog").getByRole("textbox").waitFor();
    await page.keyboard.press("Control+A");
    await page.keyboard.type("2 [[say=B]]");
    await press(page.getByRole("button", { name: "Save" }));
    await row("2 [[say=B]]").waitFor();
    await press(row("three").getByRole("button", { name: "Send now" }));
    await until("all is answered", async () => !(await queueOf(id)).length && (await chatNow(id)).status === "waiting");
    await expectHistory(page, id);
    await tabTo(page, composer(page));
    await page.keyboard.type(ENDLESS);
    await page.keyboard.press("Enter");
    await until("words come", () => wordsShown(page));
    await press(page.getByRole("button", { name: "Stop", exact: true }));
    await page.getByText("Stopped here.").last().waitFor();
    await menu("Settings …");
    const form = page.getByRole("dialog", { name: "Settings of the chat" });
    await tabTo(page, form.getByRole("combobox", { name: "Model" }));
    await page.keyboard.press("Escape");
    await menu("Rename");
    await page.getByRole("dialog").getByRole("textbox", { name: "Title" }).waitFor();
    await page.keyboard.press("Control+A");
    await page.keyboard.type(`${title} renamed`);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: `${title} renamed` }).waitFor();
    await menu("Archive");
    await press(main.getByRole("button", { name: "Unarchive" }));
    await composer(page).waitFor();
    await page.keyboard.press("Control+K");
    await page.locator("input:focus").waitFor();
    await page.keyboard.type(`${title} ren`.toLowerCase());
    await press(page.getByRole("navigation").getByRole("link", { name: `${title} renamed` }));
    await menu("Delete …");
    await press(page.getByRole("alertdialog").getByRole("button", { name: "Delete" }));
    await page.waitForURL(/\/$/);
  });
});
