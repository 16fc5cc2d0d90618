/** What a browser keeps for the page: drafts, what was seen, whose they are; over tabs, and where nothing can be kept. */

import { act, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { forgetDrafts, keptDraft, useDraft } from "../src/chat/drafts.ts";
import { isUnread, markSeen, seen } from "../src/chat/seen.ts";
import type { Chat } from "../src/client/index.ts";
import { keep, kept } from "../src/ui/kept.ts";
import { theme } from "../src/ui/theme.ts";

beforeEach(() => localStorage.clear());
afterEach(() => {
  vi.unstubAllGlobals();
  forgetDrafts();
});

/** Another tab of this browser keeps something. */
function keepElsewhere(name: string, text: string): void {
  const key = `chatcluster.${name}`;
  const oldValue = localStorage.getItem(key);
  if (text) localStorage.setItem(key, text);
  else localStorage.removeItem(key);
  act(() => void window.dispatchEvent(new StorageEvent("storage", { key, oldValue, newValue: text || null })));
}

/** In the place of keeping something, the browser's storage does this; all else it does as before. */
function instead(setItem: (...item: string[]) => void): void {
  const get = (storage: Storage, name: string) => (name === "setItem" ? setItem : Reflect.get(storage, name));
  vi.stubGlobal("localStorage", new Proxy(localStorage, { get: get as ProxyHandler<Storage>["get"] }));
}

const isFull = () => {
  throw new DOMException("full", "QuotaExceededError");
};

function Field() {
  const { text, change, sent } = useDraft("a");
  return (
    <>
      <input aria-label="Message" value={text} onChange={(event) => change(event.target.value)} />
      <button type="button" onClick={() => sent("one")}>
        sent
      </button>
    </>
  );
}

const field = () => screen.getByRole<HTMLInputElement>("textbox");
const write = (value: string) => fireEvent.change(field(), { target: { value } });

describe("a draft", () => {
  /** Another tab has sent these words: the draft goes, and that they were sent is told. */
  const sendElsewhere = (words: string) => {
    keepElsewhere("draft.a", "");
    keepElsewhere("draft.sent.a", words);
    keepElsewhere("draft.sent.a", "");
  };

  test("that was sent in another tab is gone, unless something else stands here", () => {
    keep("draft.a", "one");
    render(<Field />);
    sendElsewhere("one");
    expect(field().value).toBe("");
    write("mine");
    keepElsewhere("draft.a", "theirs");
    sendElsewhere("theirs");
    expect(field().value).toBe("mine");
  });

  test("that is written while another tab sends stays in its field", () => {
    keep("draft.a", "one");
    render(<Field />);
    write("two"); // kept a moment before the other tab, which has not heard of it, takes away what it sent
    sendElsewhere("one");
    expect(field().value).toBe("two");
  });

  test("that only this tab has, as the storage was full, is gone as well once another has sent it", () => {
    instead(isFull);
    render(<Field />);
    write("one");
    vi.unstubAllGlobals();
    sendElsewhere("one");
    expect([field().value, keptDraft("a")]).toEqual(["", ""]);
  });

  test("that was sent is told to other tabs, and nothing of it stays", () => {
    const told: string[][] = [];
    const storage = localStorage;
    instead((name = "", text = "") => {
      told.push([name, text]);
      storage.setItem(name, text);
    });
    render(<Field />);
    write("one");
    fireEvent.click(screen.getByRole("button"));
    vi.unstubAllGlobals();
    expect(told.at(-1)).toEqual(["chatcluster.draft.sent.a", "one"]);
    expect({ ...localStorage }).toEqual({});
  });

  test("goes when it was sent, and what was written since then stays", () => {
    render(<Field />);
    write("one");
    fireEvent.click(screen.getByRole("button"));
    expect([field().value, keptDraft("a")]).toEqual(["", ""]);
    write("one");
    keepElsewhere("draft.a", "two");
    write("two");
    fireEvent.click(screen.getByRole("button"));
    expect([field().value, keptDraft("a")]).toEqual(["two", "two"]);
  });
});

const chat = (snapshot_version: number) => ({ id: "c", snapshot_version, status: "waiting" }) as Chat;

describe("where nothing can be kept", () => {
  test("one writes and reads all the same", () => {
    const refuse = () => {
      throw new DOMException("full, or forbidden", "QuotaExceededError");
    };
    vi.stubGlobal("localStorage", { getItem: refuse, setItem: refuse, removeItem: refuse });
    render(<Field />);
    write("one");
    expect(field().value).toBe("one");
    markSeen(chat(3));
    expect(isUnread(chat(4), seen().now)).toBe(true);
    expect(theme()).toBe("system");
  });

  test("a draft is there when one comes back to its chat; what the storage takes again is kept there", () => {
    instead(isFull);
    const { unmount } = render(<Field />);
    write("one");
    unmount();
    render(<Field />);
    expect(field().value).toBe("one");
    vi.unstubAllGlobals();
    write("one two");
    expect([localStorage.getItem("chatcluster.draft.a"), kept("draft.a")]).toEqual(["one two", "one two"]);
  });

  test("nothing of it is left for the next user", () => {
    instead(isFull);
    keep("draft.b", "secret");
    vi.unstubAllGlobals();
    forgetDrafts();
    expect(kept("draft.b")).toBe("");
  });

  test.each(["null", "7", "[", '"x"'])("what is there and is nothing of ours is passed over: %s", (text) => {
    keepElsewhere("seen", text);
    expect(isUnread(chat(9), seen().now)).toBe(false);
  });
});
