/** Files on the page: chosen, dropped and pasted; sent, shown and downloaded; and those that cannot be had. */

import { readFileSync } from "node:fs";
import { deflateSync } from "node:zlib";
import type { Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import { atRest, call, composer, log, newChat, open, until } from "./page.ts";

/** A picture of one colour. */
function png(width: number, height: number): Buffer {
  const chunk = (kind: string, data: Buffer) => {
    const body = Buffer.concat([Buffer.from(kind), data]);
    const ends = Buffer.alloc(8);
    ends.writeUInt32BE(data.length, 0);
    ends.writeUInt32BE(crc(body), 4);
    return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 0, 0, 0, 0], 8);
  const rows = deflateSync(Buffer.alloc((width + 1) * height, 0x77).map((byte, at) => (at % (width + 1) ? byte : 0)));
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);
  return Buffer.concat([signature, chunk("IHDR", head), chunk("IDAT", rows), chunk("IEND", Buffer.alloc(0))]);
}

function crc(data: Buffer): number {
  let sum = ~0;
  for (const byte of data) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

const TEXT = { name: "notes.md", mimeType: "text/markdown", buffer: Buffer.from("# Notes\n") };
const PICTURE = { name: "grey.png", mimeType: "image/png", buffer: png(40, 30) };
const attached = (page: Page) => page.getByRole("list", { name: "Attached files" });

type Chosen = { name: string; mimeType: string; buffer: Buffer };

async function choose(page: Page, ...files: Chosen[]): Promise<void> {
  const chosen = page.waitForEvent("filechooser");
  await page.getByRole("button", { name: "Attach files" }).click();
  await (await chosen).setFiles(files);
}

/** A drop or a paste of one text file, as the browser tells it. */
const bring = (page: Page, kind: "drop" | "paste", name: string) =>
  page.evaluate(
    ([kind, name]) => {
      const data = new DataTransfer();
      data.items.add(new File(["words"], name as string, { type: "text/plain" }));
      const field = document.querySelector("textarea") as HTMLElement;
      const options = { bubbles: true, cancelable: true };
      if (kind === "paste") field.dispatchEvent(new ClipboardEvent("paste", { ...options, clipboardData: data }));
      else {
        document.body.dispatchEvent(new DragEvent("dragover", { ...options, dataTransfer: data }));
        document.body.dispatchEvent(new DragEvent("drop", { ...options, dataTransfer: data }));
      }
    },
    [kind, name],
  );

describe("files", () => {
  test("are chosen, dropped and pasted, outlive a reload, and go with the message", async () => {
    const page = await open("/");
    await choose(page, TEXT, PICTURE);
    await bring(page, "drop", "dropped.txt");
    await bring(page, "paste", "pasted.txt");
    await page.getByText("4 attached.").waitFor({ state: "attached" });
    await page.getByRole("button", { name: "Remove dropped.txt" }).click();
    await page.reload();
    await until("they are still there", async () => (await attached(page).getByRole("listitem").count()) === 3);
    await composer(page).fill("See these [[say=seen]]");
    await composer(page).press("Enter");
    await log(page).getByText("seen", { exact: true }).waitFor();
    const shown = log(page).getByRole("list", { name: "Files" });
    await shown.waitFor();
    expect(await shown.getByRole("listitem").count()).toBe(3);
    const picture = shown.getByRole("img", { name: "grey.png" });
    await until("the picture is drawn", () => picture.evaluate((img) => (img as HTMLImageElement).naturalWidth === 40));
    const download = page.waitForEvent("download");
    await shown.getByRole("link", { name: /notes\.md/ }).click();
    const file = await download;
    expect(file.suggestedFilename()).toBe("notes.md");
    expect(readFileSync(await file.path(), "utf8")).toBe("# Notes\n");
    expect(await attached(page).count()).toBe(0);
  });

  test("stay with a message that is edited or waits in the queue, and may go without words", async () => {
    const page = await open("/");
    await choose(page, TEXT);
    await page.getByText("1 attached.").waitFor({ state: "attached" });
    await composer(page).press("Enter");
    await page.waitForURL(/\/chats\//);
    const id = page.url().split("/").at(-1) as string;
    await atRest(id);
    await composer(page).press("ArrowUp");
    await page.getByRole("textbox", { name: "Edit message" }).fill("With words [[tokens=100000 tps=40]]");
    await page.keyboard.press("Enter");
    await page.getByRole("button", { name: "Stop", exact: true }).waitFor();
    await choose(page, PICTURE);
    await composer(page).fill("later");
    await page.getByRole("button", { name: "Queue" }).click();
    const queue = page.getByRole("region", { name: "Queue" });
    await queue.getByText("grey.png").waitFor();
    await queue.getByRole("button", { name: "Edit queued message" }).click();
    await page.getByRole("dialog").getByRole("textbox").fill("later [[say=both]]");
    await page.getByRole("button", { name: "Save" }).click();
    await queue.getByText("grey.png").waitFor();
    await page.getByRole("button", { name: "Stop", exact: true }).click();
    await log(page).getByText("both", { exact: true }).waitFor();
    const names = await log(page).getByRole("list", { name: "Files" }).getByRole("link").count();
    expect(names).toBe(2);
  });

  test("of a wrong kind, too large, empty, or with hostile names are told, and harm nothing", async () => {
    const { id } = await newChat("[[say=ready]]");
    const page = await open(`/chats/${id}`);
    const hostile = `<img src=x onerror=alert(1)>\u202E${"n".repeat(150)}.md`;
    await choose(
      page,
      { name: "x.exe", mimeType: "text/plain", buffer: Buffer.from([0x4d, 0x5a, 0, 1, 2, 0xff]) },
      { name: "big.txt", mimeType: "text/plain", buffer: Buffer.alloc((10 << 20) + 1, 0x61) },
      { name: "empty.txt", mimeType: "text/plain", buffer: Buffer.alloc(0) },
      { ...TEXT, name: hostile },
    );
    await attached(page).getByText("This is no file of a kind that is taken", { exact: false }).waitFor();
    await attached(page).getByText("a file may have 10 MB", { exact: false }).waitFor();
    await attached(page).getByText("The file is empty", { exact: false }).waitFor();
    expect(await page.getByRole("button", { name: "Send", exact: true }).isDisabled()).toBe(true);
    for (const name of ["x.exe", "big.txt", "empty.txt"]) {
      await page.getByRole("button", { name: `Remove ${name}` }).click();
    }
    await page.getByText("1 attached.").waitFor({ state: "attached" });
    await composer(page).fill("ok [[say=fine]]");
    await composer(page).press("Enter");
    await log(page).getByText("fine", { exact: true }).waitFor();
    expect(await log(page).locator("img").count()).toBe(0);
    const wider = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(await wider()).toBeLessThanOrEqual(0);
  });

  test("that the server has no more are told when they are sent", async () => {
    const page = await open("/");
    await choose(page, TEXT);
    await page.getByText("1 attached.").waitFor({ state: "attached" });
    const { files } = await call<{ files: { id: string }[] }>("GET", "/files?limit=1");
    await call("DELETE", `/files/${files[0]?.id}`);
    await composer(page).fill("where is it");
    await composer(page).press("Enter");
    await attached(page).getByText("Attach it again", { exact: false }).waitFor();
    expect(await composer(page).inputValue()).toBe("where is it");
  });
});
