/** What a page shows, and asked of its server, when a test has failed on it: for those who read the end of a run. */

import type { Page, Request } from "playwright-core";

/** Of the list of chats, and of what is beside it and lies over it. */
const LIST_LINES_MAX = 15;
const LINES_MAX = 30;
const REQUESTS_MAX = 16;
const BODY_CHARACTERS_MAX = 100;
const TOLD_MS_MAX = 10_000;
/** By it these lines are found in all that a run says: see `.ci/run`. */
const MARK = "page> ";

type Asked = { request: Request; at: number; came: string };
const asked = new WeakMap<Page, Asked[]>();

/** Remember what the page asks its server for. */
export function noteRequests(page: Page): void {
  const noted: Asked[] = [];
  asked.set(page, noted);
  page.on("request", (request) => {
    if (!new URL(request.url()).pathname.startsWith("/api/")) return;
    noted.push({ request, at: Date.now(), came: "no answer" });
    noted.splice(0, noted.length - REQUESTS_MAX);
  });
  const came = (request: Request, what: string) => {
    const one = noted.find((other) => other.request === request);
    if (one) one.came = `${what} after ${Date.now() - one.at} ms`;
  };
  page.on("response", (response) => came(response.request(), String(response.status())));
  page.on("requestfailed", (request) => came(request, request.failure()?.errorText ?? "failed"));
}

/** Print where the page is, what it asked for last, where its focus is, and the beginning of what it shows. */
export async function tellOf(page: Page): Promise<void> {
  const now = Date.now();
  const requests = (asked.get(page) ?? []).map(({ request, at, came }) => {
    const { pathname, search } = new URL(request.url());
    const body = (request.postData() ?? "").slice(0, BODY_CHARACTERS_MAX);
    return `${now - at} ms ago: ${request.method()} ${pathname}${search} ${body}: ${came}`;
  });
  const late = new Promise<string[]>((resolve) => setTimeout(resolve, TOLD_MS_MAX, ["It does not say what it shows."]));
  const lines = [page.url(), ...requests, ...(await Promise.race([shown(page).catch(() => late), late]))];
  console.log(lines.map((line) => MARK + line).join("\n"));
}

async function shown(page: Page): Promise<string[]> {
  const focus = await page.evaluate(() => (document.activeElement?.cloneNode(false) as Element | undefined)?.outerHTML);
  const tree = (await page.locator("body").ariaSnapshot()).split("\n").filter((line) => !line.includes("- /url:"));
  const main = Math.max(
    0,
    tree.findIndex((line) => /^\s*- main/.test(line)),
  );
  return [`focus: ${focus}`, ...tree.slice(0, main).slice(0, LIST_LINES_MAX), ...tree.slice(main, main + LINES_MAX)];
}
