/** What one writes in the place of a message stays until it is taken, or given up. */

import { act, fireEvent, render, screen } from "@testing-library/react";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { attemptDone, attemptKey, useDraft } from "../src/chat/drafts.ts";
import { Editor } from "../src/chat/Message.tsx";
import "../src/chat/QueuedEditor.tsx"; // it is there at once then
import { Queue } from "../src/chat/Queue.tsx";
import { OpenChat, type Queued } from "../src/client/index.ts";
import { refused, Server, settled } from "./server.ts";

beforeEach(() => localStorage.clear());

const field = (name: string) => screen.getByRole<HTMLTextAreaElement>("textbox", { name });
const write = (name: string, value: string) => fireEvent.change(field(name), { target: { value } });
const press = (name: string) => act(async () => void fireEvent.click(screen.getByRole("button", { name })));

describe("an edit of a message", () => {
  const shown = (server = new Server()) =>
    render(<Editor chat={new OpenChat(server.api, "c")} id={7} text="before" files={[]} onClose={() => {}} />);

  test("is there again when history was told anew", () => {
    shown().unmount();
    shown();
    expect(field("Edit message").value).toBe("before");
    write("Edit message", "after");
    shown().unmount();
    expect(field("Edit message").value).toBe("after");
  });

  test("stays where it could not be sent", async () => {
    const server = new Server();
    server.answers.set("PATCH /chats/c/messages/7", () => refused(503, "store_unavailable"));
    const { unmount } = shown(server);
    write("Edit message", "after");
    await press("Send");
    await settled();
    unmount();
    shown();
    expect(field("Edit message").value).toBe("after");
  });

  test.each(["Send", "Cancel"])("is gone after %s", async (button) => {
    const server = new Server();
    server.answers.set("PATCH /chats/c/messages/7", () => ({}));
    const { unmount } = shown(server);
    write("Edit message", "after");
    await press(button);
    await settled();
    unmount();
    shown();
    expect(field("Edit message").value).toBe("before");
  });
});

const queued = (id: number): Queued => ({ id, parts: [{ type: "text", text: `m${id}` }], created_at: "" });

describe("an edit of a queued message", () => {
  async function edited(answer: () => unknown) {
    const server = new Server();
    server.answers.set("PATCH /chats/c/queue/1", answer);
    const chat = new OpenChat(server.api, "c");
    const { rerender } = render(<Queue chat={chat} queue={[queued(1)]} />);
    await press("Edit queued message");
    await screen.findByRole("dialog");
    write("Message", "better");
    return { left: () => rerender(<Queue chat={chat} queue={[]} />) };
  }

  test("stays where no server took it", async () => {
    await edited(() => new TypeError("away"));
    await press("Save");
    expect((await screen.findByRole("alert")).textContent).toContain("cannot be reached");
    expect(field("Message").value).toBe("better");
  });

  test("stays when the message left the queue meanwhile, and that is said", async () => {
    const { left } = await edited(() => refused(404, "queued_message_not_found"));
    left();
    expect(field("Message").value).toBe("better");
    await press("Save");
    expect((await screen.findByRole("alert")).textContent).toContain("has left the queue meanwhile");
    expect(field("Message").value).toBe("better");
  });
});

function Field() {
  const { text, change } = useDraft("a");
  return <input aria-label="Message" value={text} onChange={(event) => change(event.target.value)} />;
}

describe("what could not be sent", () => {
  const typed = (...texts: string[]) => {
    render(<Field />);
    for (const text of texts) write("Message", text);
    return attemptKey("a", { content: texts.at(-1) });
  };

  test("is the same message when its words are corrected back, and another one when they are written in an empty field", () => {
    const first = typed("continue");
    write("Message", "continue!");
    write("Message", "continue");
    expect(attemptKey("a", { content: "continue" })).toBe(first);
    write("Message", "");
    write("Message", "continue");
    expect(attemptKey("a", { content: "continue" })).not.toBe(first);
    attemptDone("a");
  });

  test("is the same message when the page is loaded anew", async () => {
    const first = typed("continue");
    vi.resetModules();
    const anew = await import("../src/chat/drafts.ts");
    expect(anew.attemptKey("a", { content: "continue" })).toBe(first);
    anew.attemptDone("a");
    expect(anew.attemptKey("a", { content: "continue" })).not.toBe(first);
  });

  test.each(["null", "7", '"x"', "{", '{"body":1}'])(
    "is a message of its own where what is kept is none of ours: %s",
    (kept) => {
      localStorage.setItem("chatcluster.draft.attempt.a", kept);
      expect(attemptKey("a", 1)).toMatch(/^[0-9a-f]{32}$/);
    },
  );
});
