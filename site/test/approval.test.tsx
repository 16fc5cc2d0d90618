import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { fireEvent, render, screen } from "@testing-library/react";
import { beforeEach, describe, expect, test } from "vitest";
import Approval from "../src/chat/Approval.tsx";
import { type ActionCall, OpenChat } from "../src/client/index.ts";
import { Server, settled } from "./server.ts";

beforeEach(() => localStorage.clear());

const CALL: ActionCall = {
  call_id: "call/1",
  name: "mail__send",
  kind: "approval",
  arguments: '{"to":"all"}',
  digest: "d".repeat(64),
};

const shown = (server: Server, call: ActionCall) => (
  <QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { enabled: false } } })}>
    <Approval chat={new OpenChat(server.api, "c")} asked={[call]} />
  </QueryClientProvider>
);

function asked(call: ActionCall = CALL): Server {
  const server = new Server();
  render(shown(server, call));
  return server;
}

const write = (text: string) => fireEvent.change(screen.getByLabelText("Arguments"), { target: { value: text } });

async function press(name: string): Promise<void> {
  fireEvent.click(screen.getByRole("button", { name }));
  await settled();
}

describe("a call that waits for a person", () => {
  test("is approved with the digest of what was shown", async () => {
    const server = asked();
    await press("Approve");
    expect(server.calls).toMatchObject([
      { method: "POST", path: "/chats/c/tool-calls/call%2F1/approve", body: { digest: CALL.digest } },
    ]);
    expect(server.calls[0]?.body).not.toHaveProperty("arguments");
  });

  test("is approved as edited with the arguments as an object", async () => {
    const server = asked();
    write('{"to": "one"}');
    await press("Approve as edited");
    expect(server.calls[0]?.body).toEqual({ digest: CALL.digest, arguments: { to: "one" } });
  });

  test.each(["Approve as edited", "Deny"])("keeps what is written when all is told anew, until %s", async (button) => {
    const server = new Server();
    for (const deed of ["approve", "deny"]) server.answers.set(`POST /chats/c/tool-calls/call%2F1/${deed}`, () => ({}));
    const { unmount } = render(shown(server, CALL));
    write('{"to": "one"}');
    unmount();
    const again = render(shown(server, CALL));
    expect(screen.getByLabelText<HTMLTextAreaElement>("Arguments").value).toBe('{"to": "one"}');
    await press(button);
    again.unmount();
    render(shown(server, CALL));
    expect(screen.getByLabelText<HTMLTextAreaElement>("Arguments").value).toBe(CALL.arguments);
  });

  test("is approved as edited with all the digits of its numbers", async () => {
    const server = asked({ ...CALL, arguments: '{"id":1234567890123456789,"price":1.10}' });
    write('{"id":1234567890123456789,"price":1.10,"to":"one"}');
    await press("Approve as edited");
    expect(server.bodies).toEqual([
      `{"digest":"${CALL.digest}","arguments":{"id":1234567890123456789,"price":1.10,"to":"one"}}`,
    ]);
  });

  test("hides nothing of what it would do, and is approved as it was asked", async () => {
    const server = asked({ ...CALL, arguments: '{"path":"a\u202Etxt.exe","b":"\u3164\u{E0041}"}' });
    expect(screen.getByLabelText<HTMLTextAreaElement>("Arguments").value).toBe(
      '{"path":"a\\u202etxt.exe","b":"\\u3164\\udb40\\udc41"}',
    );
    await press("Approve");
    expect(server.calls[0]?.body).toEqual({ digest: CALL.digest });
  });

  test("and is asked again with other arguments is another question: nothing that was written for the one before is sent", async () => {
    const server = new Server();
    const { rerender } = render(shown(server, CALL));
    write('{"to":"me"}');
    rerender(shown(server, { ...CALL, arguments: '{"to":"you"}', digest: "e".repeat(64) }));
    await press("Approve");
    expect(server.calls[0]?.body).toEqual({ digest: "e".repeat(64) });
  });

  test.each(["chat", "always"])("is approved for good: %s", async (remember) => {
    const server = asked();
    fireEvent.change(screen.getByLabelText("The next time"), { target: { value: remember } });
    await press("Approve");
    expect(server.calls[0]?.body).toEqual({ digest: CALL.digest, remember });
  });

  test("is denied without arguments, whatever was written", async () => {
    const server = asked();
    write("no JSON");
    await press("Deny");
    expect(server.calls).toMatchObject([{ path: "/chats/c/tool-calls/call%2F1/deny", body: {} }]);
  });

  test("of an agent is answered where the agent is", async () => {
    const server = asked({ ...CALL, chat_id: "agent" });
    expect(screen.getByRole("link").getAttribute("href")).toBe("/chats/agent");
    await press("Approve");
    expect(server.calls[0]?.path).toBe("/chats/agent/tool-calls/call%2F1/approve");
  });

  test.each(["", "no JSON", "[]", "null", "1", '"text"'])("cannot be approved with %s for arguments", (text) => {
    asked();
    write(text);
    expect(screen.getByRole<HTMLButtonElement>("button", { name: "Approve as edited" }).disabled).toBe(true);
  });
});

describe("a call that nobody decides on here", () => {
  test("of a client's tool says that its program has to run it", () => {
    asked({ ...CALL, kind: "client" });
    expect(screen.getByRole("status").textContent).toContain("has to run it");
    expect(screen.queryByRole("button")).toBeNull();
  });

  test("that waits for a sign-in offers it, at the server that the tool is of", () => {
    asked({ ...CALL, kind: "sign_in" });
    expect(screen.getByRole("button").textContent).toBe("Sign in at mail");
  });

  test("of a kind that is not known here waits, and no more is said", () => {
    asked({ ...CALL, kind: "agents" });
    expect(screen.getByRole("status").textContent).toContain("waits for others");
  });
});
