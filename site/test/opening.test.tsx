import { act, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { readAhead, readChat, readPage } from "../src/ahead.ts";
import { areQuiet, useSelected } from "../src/chat/useOpenChat.ts";
import { EMPTY_VIEW, OpenChat } from "../src/client/index.ts";
import { api } from "../src/server.ts";
import { later } from "../src/ui/later.tsx";
import { refused } from "./server.ts";

let calls: string[];
let isRefused: boolean;

beforeEach(() => {
  calls = [];
  isRefused = false;
  vi.stubGlobal("fetch", async (path: string) => {
    calls.push(path.replace(/^.*\/api\/v1/, ""));
    return isRefused
      ? refused(401, "unauthenticated")
      : new Response(JSON.stringify({ messages: [], has_more: false }));
  });
});
afterEach(() => void vi.unstubAllGlobals());

const at = (pathname: string, hash = "") => ({ pathname, hash }) as Location;

test("what the address asks for is read once, by whoever wants it first", async () => {
  readAhead(at("/chats/a"));
  expect(calls).toHaveLength(2);
  await Promise.all([readPage("a"), readChat("a")]);
  expect(calls).toHaveLength(2);
  await readPage("a");
  expect(calls).toHaveLength(3);
});

test.each([at("/"), at("/cluster/chats"), at("/chats/a", "#code=1")])(
  "nothing is read ahead at $pathname$hash",
  (place) => {
    readAhead(place);
    expect(calls).toEqual([]);
  },
);

test("what could not be read ahead is asked for again", async () => {
  isRefused = true;
  readAhead(at("/chats/b"));
  await vi.waitFor(async () => expect(calls).toHaveLength(2));
  await new Promise((resolve) => setTimeout(resolve, 0));
  isRefused = false;
  await readPage("b");
  expect(calls).toHaveLength(3);
});

test("words, and what commands print, change nothing but the place where they are shown", () => {
  const part = { type: "text", text: "one" } as const;
  expect(
    areQuiet(EMPTY_VIEW, { ...EMPTY_VIEW, cursor: "2", preview: [part], outputs: {}, progress: {} } as never),
  ).toBe(true);
  expect(areQuiet(EMPTY_VIEW, { ...EMPTY_VIEW, status: "running" })).toBe(false);
});

let shownTimes = 0;
function Count({ chat }: { chat: OpenChat }) {
  shownTimes++;
  return <p>{useSelected(chat.view, (view) => view.status, Object.is)}</p>;
}

test("what one selects of a view is shown anew only when it is another", () => {
  const chat = new OpenChat(api, "a");
  render(<Count chat={chat} />);
  const before = shownTimes;
  act(() => {
    chat.apply("1", { type: "part", attempt: 1, part: { type: "text", text: "one" } });
    chat.view.flush();
  });
  expect(shownTimes).toBe(before);
  act(() => {
    chat.view.set({ ...chat.view.now, status: "running" });
    chat.view.flush();
  });
  expect(screen.getByText("running")).toBeTruthy();
});

const Late = later(async () => ({ what }: { what: string }) => <p>{what}</p>);

test("a part of the page that is loaded later is there at once the next time", async () => {
  const shown = () => <Late what="there" meanwhile={<p>not yet</p>} />;
  const { unmount } = render(shown());
  expect(screen.getByText("not yet")).toBeTruthy();
  await screen.findByText("there");
  unmount();
  render(shown());
  expect(screen.getByText("there")).toBeTruthy();
});
