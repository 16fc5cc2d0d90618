import { fireEvent, render, screen } from "@testing-library/react";
import { beforeEach, describe, expect, test } from "vitest";
import { Questions } from "../src/chat/Questions.tsx";
import { type ActionCall, OpenChat } from "../src/client/index.ts";
import { Server, settled } from "./server.ts";

beforeEach(() => localStorage.clear());

const CALL: ActionCall = { call_id: "c", name: "shop__pay", kind: "question", arguments: "{}", digest: "d" };

function asked(url: string): HTMLElement {
  const questions = [{ key: "k", message: "Where to?", url }];
  return render(<Questions chat={new OpenChat(new Server().api, "c")} call={CALL} questions={questions} />).container;
}

describe("an address that the server of a tool names", () => {
  test("is a link that says where it leads", () => {
    asked("https://pay.example/x?y=1");
    const link = screen.getByRole<HTMLAnchorElement>("link");
    expect([link.getAttribute("href"), link.target, link.rel]).toEqual([
      "https://pay.example/x?y=1",
      "_blank",
      "noreferrer noopener",
    ]);
    expect(screen.getByText("(pay.example)")).toBeTruthy();
  });

  test.each([
    ["what stands before an @", "https://bank.example@evil.example/", "(evil.example)"],
    ["letters that look like others", "https://b\u0430nk.example/", "(xn--bnk-6cd.example)"],
  ])("says its host, whatever %s would say", (_, url, host) => {
    asked(url);
    expect(screen.getByText(host)).toBeTruthy();
  });

  test("is not turned round by what turns text", () => {
    expect(asked("https://evil.example/\u202Emoc.knab").textContent).not.toContain("\u202E");
  });

  test.each(["javascript:alert(1)", "data:text/html,x", "blob:https://x/1", "file:///etc", "not an address", "//x"])(
    "is no link if it is none: %s",
    (url) => {
      asked(url);
      expect(screen.queryByRole("link")).toBeNull();
      expect(screen.getByText(/names an address that is none/)).toBeTruthy();
    },
  );
});

const SCHEMA = {
  properties: {
    name: { type: "string", title: "Name", default: "Ann" },
    size: { enum: ["small", "large"], title: "Size" },
    spicy: { type: "boolean", title: "Spicy", default: true },
  },
};

describe("what is written into a form", () => {
  const form = (server = new Server()) =>
    render(
      <Questions
        chat={new OpenChat(server.api, "c")}
        call={CALL}
        questions={[{ key: "k", message: "What?", schema: SCHEMA }]}
      />,
    );
  const shown = () => ({
    name: screen.getByLabelText<HTMLInputElement>("Name").value,
    size: screen.getByLabelText<HTMLSelectElement>("Size").value,
    spicy: screen.getByLabelText<HTMLInputElement>("Spicy").checked,
  });

  test("is there when all is told anew, and gone once it was answered", async () => {
    const server = new Server();
    server.answers.set("POST /chats/c/tool-calls/c/answer", () => ({}));
    const first = form(server);
    expect(shown()).toEqual({ name: "Ann", size: "", spicy: true });
    fireEvent.change(screen.getByLabelText("Name"), { target: { value: "" } });
    fireEvent.change(screen.getByLabelText("Size"), { target: { value: "large" } });
    fireEvent.click(screen.getByLabelText("Spicy"));
    first.unmount();
    const second = form(server);
    expect(shown()).toEqual({ name: "", size: "large", spicy: false });
    fireEvent.click(screen.getByRole("button", { name: "Answer" }));
    await settled();
    expect(server.calls.at(-1)?.body).toMatchObject({ answers: { k: { content: { size: "large", spicy: false } } } });
    second.unmount();
    form(server);
    expect(shown()).toEqual({ name: "Ann", size: "", spicy: true });
  });
});
