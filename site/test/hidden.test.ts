/** A page that nobody sees gives its connection back: from its beginning on, and where the browser puts it away. */

import { renderHook } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { markSeen, seen, useSeen } from "../src/chat/seen.ts";
import { type Chat, pauseWhileHidden, type Tab } from "../src/client/index.ts";

const tab = { pause: vi.fn(), resume: vi.fn() };
let stop = () => {};

beforeEach(() => {
  vi.useFakeTimers();
  vi.clearAllMocks();
});
afterEach(() => {
  stop();
  show("visible");
  vi.useRealTimers();
});

function show(state: "visible" | "hidden"): void {
  Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}

const follow = () => {
  stop = pauseWhileHidden(tab as unknown as Tab, document, 30_000);
};

describe("a page's stream", () => {
  test("is paused 30 s after the page was hidden, and goes on when it is seen", () => {
    follow();
    show("hidden");
    vi.advanceTimersByTime(29_000);
    expect(tab.pause).not.toHaveBeenCalled();
    vi.advanceTimersByTime(2000);
    expect(tab.pause).toHaveBeenCalledOnce();
    tab.resume.mockClear();
    show("visible");
    expect(tab.resume).toHaveBeenCalledOnce();
  });

  test("is paused in a tab that was opened in the background, which tells of no change", () => {
    show("hidden");
    follow();
    vi.advanceTimersByTime(31_000);
    expect(tab.pause).toHaveBeenCalledOnce();
  });

  test("is paused at once where the browser puts the page away, and goes on when it is back", () => {
    follow();
    window.dispatchEvent(new Event("pagehide"));
    expect(tab.pause).toHaveBeenCalledOnce();
    tab.resume.mockClear();
    window.dispatchEvent(new Event("pageshow"));
    expect(tab.resume).toHaveBeenCalledOnce();
  });

  test("is left alone afterwards", () => {
    follow();
    stop();
    show("hidden");
    window.dispatchEvent(new Event("pagehide"));
    vi.advanceTimersByTime(60_000);
    expect(tab.pause).not.toHaveBeenCalled();
  });
});

test("what came while one looked at another tab is seen when one is back", () => {
  const chat = (snapshot_version: number) => ({ id: "h", snapshot_version, status: "waiting" }) as Chat;
  markSeen(chat(1));
  show("hidden");
  renderHook(() => useSeen(chat(2), true));
  expect(seen().now.h).toBe(1);
  show("visible");
  expect(seen().now.h).toBe(2);
});
