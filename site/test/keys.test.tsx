/** Keys: of input methods, of other alphabets, of screens that one writes on, and of what lies over the page. */

import { act, createEvent, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Composer } from "../src/chat/Composer.tsx";
import { useShortcuts } from "../src/ui/keys.ts";

beforeEach(() => localStorage.clear());
afterEach(() => void vi.unstubAllGlobals());

/** A key as browsers tell of it: what cannot be said when an event is made is written into it. */
function press(target: Element | Window, of: Record<string, unknown>): boolean {
  const event = createEvent.keyDown(target as Element, { bubbles: true, cancelable: true });
  for (const [name, value] of Object.entries(of)) Object.defineProperty(event, name, { value });
  act(() => void fireEvent(target as Element, event));
  return event.defaultPrevented;
}

const onSend = vi.fn(async () => {});
const onStop = vi.fn();
const field = () => screen.getByRole<HTMLTextAreaElement>("textbox", { name: "Message" });

function write(text: string, isBusy = false): void {
  onSend.mockClear();
  onStop.mockClear();
  render(<Composer draftKey="a" isBusy={isBusy} placeholder="" onSend={onSend} onStop={onStop} />);
  fireEvent.change(field(), { target: { value: text } });
}

describe("the focus", () => {
  const isThere = () => document.activeElement === field();

  test("is where one writes once that is there", () => {
    write("");
    expect(isThere()).toBe(true);
  });

  test.each([
    ["a field that one writes in", <input key="one" aria-label="Other" />],
    ["a dialog that one has opened", <div key="one" role="dialog" aria-label="Other" tabIndex={-1} />],
    ["a menu", <div key="one" role="menu" aria-label="Other" tabIndex={-1} />],
  ])("is taken from no other place meanwhile: %s", (_, other) => {
    render(other);
    const there = screen.getByLabelText("Other");
    there.focus();
    write("");
    expect(document.activeElement).toBe(there);
  });
});

describe("Enter", () => {
  test("sends", () => {
    write("hi");
    press(field(), { key: "Enter" });
    expect(onSend).toHaveBeenCalledExactlyOnceWith("hi", "queue");
  });

  test.each([
    ["as most browsers tell it", { isComposing: true }],
    ["as Safari tells it, when the word is there already", { keyCode: 229 }],
  ])("that takes a word of an input method sends nothing: %s", (_, how) => {
    write("\u65e5\u672c");
    press(field(), { key: "Enter", ...how });
    expect(onSend).not.toHaveBeenCalled();
  });

  test("begins a new line on a screen that one writes on, and a button sends", () => {
    vi.stubGlobal("matchMedia", () => ({ matches: true, addEventListener: () => {}, removeEventListener: () => {} }));
    write("hi");
    expect(press(field(), { key: "Enter" })).toBe(false);
    expect(onSend).not.toHaveBeenCalled();
    fireEvent.click(screen.getByRole("button", { name: "Send" }));
    expect(onSend).toHaveBeenCalledOnce();
  });
});

describe("Escape", () => {
  test.each([
    ["the field", field],
    ["anywhere else", () => document.body],
  ])("stops the answer from %s", (_, from) => {
    write("", true);
    press(from(), { key: "Escape" });
    expect(onStop).toHaveBeenCalledOnce();
  });

  test("that gives up a word of an input method stops nothing", () => {
    write("", true);
    press(field(), { key: "Escape", isComposing: true });
    expect(onStop).not.toHaveBeenCalled();
  });

  test("that closes what lies over the page stops nothing, however early that is gone", () => {
    write("", true);
    const layer = document.body.appendChild(Object.assign(document.createElement("div"), { role: "dialog" }));
    layer.setAttribute("role", "dialog");
    const close = () => layer.remove();
    document.addEventListener("keydown", close);
    press(document.body, { key: "Escape" });
    document.removeEventListener("keydown", close);
    expect(onStop).not.toHaveBeenCalled();
    press(document.body, { key: "Escape" });
    expect(onStop).toHaveBeenCalledOnce();
  });

  test("in another field is that field's", () => {
    write("", true);
    const other = document.body.appendChild(document.createElement("input"));
    press(other, { key: "Escape" });
    other.remove();
    expect(onStop).not.toHaveBeenCalled();
  });
});

const hits: string[] = [];

function Keys() {
  const run = (keys: string) => ({ keys, what: keys, run: () => void hits.push(keys) });
  useShortcuts([run("Mod+K"), run("Mod+Shift+O"), run("Mod+/"), run("?"), run("g c")]);
  return null;
}

const CTRL = { ctrlKey: true };

test.each([
  ["Ctrl+K", ["Mod+K"], [{ key: "k", code: "KeyK", ...CTRL }]],
  ["Ctrl+K of a Russian keyboard", ["Mod+K"], [{ key: "\u043b", code: "KeyK", ...CTRL }]],
  ["Ctrl+Shift+O of a Greek one", ["Mod+Shift+O"], [{ key: "\u039f", code: "KeyO", shiftKey: true, ...CTRL }]],
  [
    "g c of a Hebrew one",
    ["g c"],
    [
      { key: "\u05e2", code: "KeyG" },
      { key: "\u05d1", code: "KeyC" },
    ],
  ],
  ["Ctrl+K of a Dvorak one", ["Mod+K"], [{ key: "k", code: "KeyV", ...CTRL }]],
  ["Ctrl+/ of a German one, with Shift", ["Mod+/"], [{ key: "/", code: "Digit7", shiftKey: true, ...CTRL }]],
  [
    "a slash that is written with AltGr, which is Ctrl and Alt",
    [],
    [{ key: "/", code: "Digit7", altKey: true, ...CTRL }],
  ],
  ["a letter with Alt", [], [{ key: "?", altKey: true }]],
])("%s is %j", (_, wanted, keys) => {
  hits.length = 0;
  render(<Keys />);
  for (const key of keys) press(document.body, key);
  expect(hits).toEqual(wanted);
});
