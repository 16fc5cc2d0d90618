import { render, screen } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { WithSignInLink } from "../src/chat/SignInLink.tsx";
import { type Answered, ToolCall } from "../src/chat/ToolCall.tsx";

const CALL = { type: "tool_call", id: "1", name: "mail__send", arguments: '{"to":"all"' } as const;
const done = (is_error = false): Answered => ({
  result: { type: "tool_result", call_id: "1", content: "sent", is_error },
  at: "2026-11-28T20:00:02.500Z",
});
const summary = () => document.querySelector("summary")?.textContent;

describe("the card of a tool call", () => {
  test("shows its arguments as they grow", () => {
    render(<ToolCall call={CALL} isActive isGrowing />);
    expect(summary()).toBe("mail__sendis asked for");
    expect(screen.getAllByText('{"to":"all"')).not.toHaveLength(0);
  });

  test.each([
    ["approval", "waits for you"],
    ["question", "waits for you"],
    ["client", "waits for its program"],
    ["agents", "waits"],
  ])("says who has to do something: %s", (waitsFor, words) => {
    render(<ToolCall call={CALL} isActive waitsFor={waitsFor} />);
    expect(summary()).toBe(`mail__send${words}`);
  });

  test.each([
    [false, "done"],
    [true, "failed"],
  ])("says what came of it, and how long that took", (isError, words) => {
    render(<ToolCall call={CALL} askedAt="2026-11-28T20:00:00Z" answered={done(isError)} />);
    expect(summary()).toBe(`mail__send${words}2.5 s`);
    expect(document.querySelector("details")?.open).toBe(false);
  });

  test("without a result and with nobody at work says so", () => {
    render(<ToolCall call={CALL} />);
    expect(summary()).toBe("mail__sendno result");
  });
});

describe("JSON of a call", () => {
  const block = (text: string) => {
    render(<ToolCall call={{ ...CALL, arguments: text }} />);
    return document.querySelector("pre")?.textContent;
  };

  test("is indented, with all the digits of its numbers, and with names that are there twice", () => {
    expect(block('{"id":1234567890123456789,"id":1.10,"a":[],"b":{},"c":[1,{"d":"x, {y}: \\""}]}')).toBe(
      [
        "{",
        '  "id": 1234567890123456789,',
        '  "id": 1.10,',
        '  "a": [],',
        '  "b": {},',
        '  "c": [',
        "    1,",
        "    {",
        '      "d": "x, {y}: \\""',
        "    }",
        "  ]",
        "}",
      ].join("\n"),
    );
  });

  test.each([
    ['"text"', '"text"'],
    ["null", "null"],
    ['{"a"', '{"a"'],
    ["", "…"],
    ['{"a":"\u202E\u200c"}', '{\n  "a": "\\u202e\u200c"\n}'],
    ['{"a":"\u200f1 \u200f> \u200f2"}', '{\n  "a": "\\u200f1 \\u200f> \\u200f2"\n}'],
  ])("%j is shown as %j", (text, shown) => expect(block(text)).toBe(shown));
});

describe("a sign-in address in what a replica says", () => {
  const shown = (text: string) => {
    render(<WithSignInLink text={text} />);
    return screen.queryByRole("link")?.getAttribute("href");
  };

  test("is a link to this page's own server", () => {
    expect(shown("Sign in at https://chat.example/oauth/mcp/sign-in/0aff . Then try again.")).toBe(
      "/oauth/mcp/sign-in/0aff",
    );
    expect(document.body.textContent).toBe("Sign in at Sign in . Then try again.");
  });

  test("is one of many, and what stands behind each is there, too", () => {
    render(<WithSignInLink text={"a https://x/oauth/mcp/sign-in/0a b https://y/oauth/mcp/sign-in/0b c"} />);
    expect(screen.getAllByRole("link").map((link) => link.getAttribute("href"))).toEqual([
      "/oauth/mcp/sign-in/0a",
      "/oauth/mcp/sign-in/0b",
    ]);
    expect(document.body.textContent).toBe("a Sign in b Sign in c");
  });

  test("any other address is text", () => {
    expect(shown("See https://evil.example/sign-in/0aff and javascript:alert(1)")).toBeUndefined();
  });
});
