import { fireEvent, render, screen } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { Approval } from "../src/chat/Approval.tsx";
import { type ActionCall, OpenChat } from "../src/client/index.ts";
import { Server, settled } from "./server.ts";

const CALL: ActionCall = {
  call_id: "call/1",
  name: "mail__send",
  kind: "approval",
  arguments: '{"to":"all"}',
  digest: "d".repeat(64),
};

function asked(): Server {
  const server = new Server();
  render(<Approval chat={new OpenChat(server.api, "c")} asked={[CALL]} />);
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

  test("is denied without arguments, whatever was written", async () => {
    const server = asked();
    write("no JSON");
    await press("Deny");
    expect(server.calls).toMatchObject([{ path: "/chats/c/tool-calls/call%2F1/deny", body: {} }]);
  });

  test.each(["", "no JSON", "[]", "null", "1", '"text"'])("cannot be approved with %s for arguments", (text) => {
    asked();
    write(text);
    expect(screen.getByRole<HTMLButtonElement>("button", { name: "Approve as edited" }).disabled).toBe(true);
  });
});
