import { QueryClientProvider } from "@tanstack/react-query";
import { act, fireEvent, render, screen, within } from "@testing-library/react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Source } from "../src/chat/family.ts";
import { ToolCall } from "../src/chat/ToolCall.tsx";
import { type Chat, type DiffStatus, type Message, OpenChat } from "../src/client/index.ts";
import { api, queries, takeChange } from "../src/server.ts";
import { useWorkspaceFound } from "../src/workspace/found.ts";
import WorkspaceCard from "../src/workspace/WorkspaceCard.tsx";
import { refused } from "./server.ts";

const ID = "0198c7e2-0000-7000-8000-00000000000a";
const CHAT = "0198c7e2-0000-7000-8000-00000000000c";
const WORKSPACE = {
  id: ID,
  chat_id: CHAT,
  name: "python-k3fd",
  template: "python",
  state: "running",
  detail: "",
  startup: "none",
  expires_at: null,
};
const STATUS = { version: 3, is_repository: true, files: 2, additions: 12, deletions: 3, branch: "main" };
const DIFF = {
  is_repository: true,
  branch: "main",
  base: "0123456789abcdef",
  files: [
    { path: "a.py", status: "modified", additions: 12, deletions: 3 },
    { path: "\u202Egnp.sh", status: "untracked", additions: null, deletions: null },
  ],
  additions: 12,
  deletions: 3,
  patch: "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-<img src=x onerror=hit()>\n+y\n",
  is_truncated: false,
  is_live: true,
};

let calls: string[];
let answers: Record<string, unknown>;

beforeEach(() => {
  calls = [];
  answers = {
    [`GET /workspaces/${ID}`]: WORKSPACE,
    [`GET /chats/${CHAT}/diff-status`]: { chat_id: CHAT, diff_status: STATUS },
    [`GET /chats/${CHAT}/diff`]: DIFF,
  };
  vi.stubGlobal("fetch", async (path: string, init: RequestInit) => {
    const call = `${init.method} ${path.replace(/^.*\/api\/v1/, "")}`;
    calls.push(call);
    const answer = answers[call];
    if (answer instanceof Response) return answer.clone();
    return answer ? new Response(JSON.stringify(answer)) : refused(404, "workspace_not_found");
  });
});
afterEach(() => {
  queries.clear();
  vi.unstubAllGlobals();
});

function shown(chat = new OpenChat(api, CHAT)) {
  render(
    <QueryClientProvider client={queries}>
      <WorkspaceCard chat={chat} id={ID} />
    </QueryClientProvider>,
  );
  return chat;
}
const state = () => screen.getByRole("status").textContent;
const open = () => fireEvent.click(screen.getByRole("button", { expanded: false }));

describe("the card of a workspace", () => {
  test("is one line that says how it is, and how much has changed; it reads no more than that", async () => {
    shown();
    await screen.findByText("2 files");
    expect(state()).toBe("running");
    expect(screen.getByText("+12")).toBeTruthy();
    expect(calls.sort()).toEqual([`GET /chats/${CHAT}/diff-status`, `GET /workspaces/${ID}`]);
  });

  test.each([
    ["building", "is built", null],
    ["starting", "starts", null],
    ["running", "running", "Stop"],
    ["stopping", "stops", null],
    ["stopped", "stopped", "Start"],
    ["failed", "failed", "Start"],
    ["lost", "lost", "Start"],
    ["a state of a newer server", "a state of a newer server", null],
  ])("says that it is %s, and lets one do what can be done", async (is, words, deed) => {
    answers[`GET /workspaces/${ID}`] = { ...WORKSPACE, state: is, detail: "the disk is full" };
    shown();
    await screen.findByText("the disk is full");
    expect(state()).toBe(words);
    const deeds = screen.queryAllByRole("button", { name: /^(Start|Stop) / }).map(({ textContent }) => textContent);
    expect(deeds).toEqual(deed ? [deed] : []);
  });

  test("stops it when one presses Stop, and shows what the server says then", async () => {
    answers[`POST /workspaces/${ID}/stop`] = { workspace: { ...WORKSPACE, state: "stopping" }, changed: true };
    shown();
    fireEvent.click(await screen.findByRole("button", { name: /^Stop / }));
    await screen.findByText("stops");
  });

  test("shows what has changed, file by file, as text: what is hidden in it is seen", async () => {
    shown();
    await screen.findByText("python-k3fd");
    open();
    const changes = await screen.findByRole("region", { name: "Changes" });
    expect(within(changes).getByText(/^2 files on main since 01234567/)).toBeTruthy();
    expect(within(changes).getByText("⟨U+202E⟩gnp.sh")).toBeTruthy();
    const details = within(changes).getByText("a.py").closest("details") as HTMLDetailsElement;
    details.open = true;
    fireEvent(details, new Event("toggle"));
    expect(await within(changes).findByText("-<img src=x onerror=hit()>")).toBeTruthy();
    expect(changes.querySelector("img")).toBeNull();
  });

  test("shows the screen of one that has a screen, while one looks", async () => {
    const SCREEN = `/chats/${CHAT}/workspace/screen`;
    answers[`GET /workspaces/${ID}`] = { ...WORKSPACE, desktop: true };
    answers[`undefined ${SCREEN}`] = new Response("png", { headers: { ETag: '"1"' } });
    shown();
    await screen.findByText("python-k3fd");
    expect(calls).not.toContain(`undefined ${SCREEN}`);
    open();
    expect(await screen.findByRole("img", { name: "The screen, as it is now" })).toBeTruthy();
    fireEvent.click(screen.getByRole("button", { expanded: true }));
    expect(screen.queryByRole("img")).toBeNull();
  });

  test("says so where the screen cannot be seen", async () => {
    answers[`GET /workspaces/${ID}`] = { ...WORKSPACE, desktop: true };
    shown();
    await screen.findByText("python-k3fd");
    open();
    await screen.findByText("The screen cannot be seen now.");
  });

  test("says why nothing can be said of changes", async () => {
    answers[`GET /chats/${CHAT}/diff`] = refused(409, "no_diff");
    shown();
    await screen.findByText("python-k3fd");
    open();
    await screen.findByText("Changes: no_diff");
  });

  test("shows what a command prints while it runs", async () => {
    const chat = shown();
    await screen.findByText("python-k3fd");
    open();
    const call = { type: "tool_call", id: "c", name: "execute", arguments: '{"command": "make all"}' } as const;
    const output = { type: "tool_output", call_id: "c", offset: 0, end: 5, text: "one\n<b>" } as const;
    act(() => {
      chat.apply("1.1-1", { type: "part", attempt: 1, part: call });
      chat.apply("1.1-2", { type: "part", attempt: 1, part: output });
      chat.view.flush();
    });
    const running = screen.getByRole("region", { name: "Running now" });
    expect(within(running).getByText("make all")).toBeTruthy();
    expect(within(running).getByRole("group", { name: "Output so far" }).textContent).toBe("one\n<b>");
  });
});

test("the card of a call shows how far it is and what it prints, until its result is there", async () => {
  const call = { type: "tool_call", id: "c", name: "execute", arguments: "{}" } as const;
  const source = { subscribe: () => () => {}, get: () => TOLD };
  const card = (more = {}) => (
    <Source value={source}>
      <ToolCall call={call} isActive {...more} />
    </Source>
  );
  const { rerender } = render(card());
  await screen.findByText("so far");
  expect(screen.getByText("2 of 5")).toBeTruthy();
  rerender(card({ answered: { result: { type: "tool_result", call_id: "c", content: "{}" }, at: null } }));
  expect(screen.queryByText("so far")).toBeNull();
  expect(screen.queryByRole("progressbar")).toBeNull();
});
const TOLD = {
  outputs: { c: { offset: 0, end: 6, text: "so far" } },
  progress: { c: { progress: 2, total: 5 } },
};

describe("what the list's stream tells of workspaces", () => {
  const told = { change: "diff_status", chatId: CHAT, chat: null, diff: { ...STATUS, version: 4 } as DiffStatus };

  test("takes no chat away", () => {
    queries.setQueryData(["chat", CHAT], { id: CHAT, snapshot_version: 1 });
    takeChange(told);
    expect(queries.getQueryData(["chat", CHAT])).toBeTruthy();
    takeChange({ change: "deleted", chatId: CHAT, chat: null, diff: null });
    expect(queries.getQueryData(["chat", CHAT])).toBeUndefined();
  });

  test("is shown at once, and an older one is passed over", () => {
    takeChange(told);
    takeChange({ ...told, diff: { ...told.diff, version: 2 } });
    expect(queries.getQueryData(["diff-status", CHAT])).toMatchObject({ version: 4 });
  });

  test("leaves what is known of the chat besides", () => {
    queries.setQueryData(["chat", CHAT], { id: CHAT, snapshot_version: 1, workspace: { id: ID } });
    const chat = { id: CHAT, snapshot_version: 2, title: "new" } as Chat;
    takeChange({ change: "title", chatId: CHAT, chat, diff: null });
    expect(queries.getQueryData(["chat", CHAT])).toMatchObject({ title: "new", workspace: { id: ID } });
  });
});

function Asks({ messages }: { messages: readonly Message[] }) {
  useWorkspaceFound(CHAT, messages);
  return null;
}

test("a chat's workspace is asked for anew when a call that made it has its result, and not for what is history", async () => {
  const invalidated = vi.spyOn(queries, "invalidateQueries");
  const message = (id: number, part: object) => ({ id, role: "assistant", parts: [part] }) as unknown as Message;
  const made = (id: string) => [
    message(1, { type: "tool_call", id, name: "create_workspace", arguments: "{}" }),
    message(2, { type: "tool_result", call_id: id, content: "" }),
  ];
  const { rerender } = render(<Asks messages={[]} />);
  rerender(<Asks messages={made("a")} />);
  rerender(<Asks messages={[...made("a"), message(3, { type: "text", text: "x" })]} />);
  expect(invalidated).not.toHaveBeenCalled();
  rerender(<Asks messages={[...made("a"), ...made("b")]} />);
  await vi.waitFor(() => expect(invalidated).toHaveBeenCalledWith({ queryKey: ["chat", CHAT] }));
  invalidated.mockRestore();
});
