import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

const BOOT = readFileSync(join(import.meta.dirname, "../public/boot.js"), "utf8");
const reload = vi.fn();

/** The page as it is before any of its files has come. */
beforeEach(() => {
  vi.useFakeTimers();
  reload.mockReset();
  sessionStorage.clear();
  vi.stubGlobal("location", { reload });
  document.body.innerHTML = '<div id="root"></div><script type="text/plain"></script><img>';
  new Function(BOOT)();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const root = () => document.getElementById("root") as HTMLElement;
const fail = (tag: string) => {
  document.querySelector(tag)?.dispatchEvent(new Event("error"));
  vi.runAllTimers();
};

test("a page whose script another version's replica does not have is asked for again", () => {
  fail("script");
  expect(reload).toHaveBeenCalledOnce();
});

test("that ends, and is said", () => {
  sessionStorage.setItem("chatcluster.boots", "5");
  fail("script");
  expect(reload).not.toHaveBeenCalled();
  expect(root().textContent).toBe("The page cannot be loaded. Try again in a moment.");
  expect(sessionStorage.length).toBe(0);
});

test("what is no part of the page, or is loaded by the page itself, is not its business", () => {
  fail("img");
  root().append("there");
  root().append(document.createElement("p"));
  fail("script");
  expect(reload).not.toHaveBeenCalled();
});
