import { render, screen } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import Summary, { toldOf } from "../src/chat/Summary.tsx";
import { applied, type ChatEvent, EMPTY_VIEW } from "../src/client/index.ts";

const call = {
  type: "tool_call",
  id: "chat_summarized_1_1",
  name: "chat_summarized",
  arguments: '{"source":"manual"}',
} as const;
const answered = (content: string, is_error = false) => ({
  result: { type: "tool_result", call_id: call.id, content, is_error } as const,
  at: null,
});

describe("a summary in the conversation", () => {
  test("is told while it is written, and when it was broken off", () => {
    const { rerender } = render(<Summary call={call} isActive />);
    expect(screen.getByText(/is being summarised/)).toBeTruthy();
    rerender(<Summary call={call} />);
    expect(screen.getByText(/broken off/)).toBeTruthy();
  });

  test("says why it was made, and has its text folded", () => {
    const told = { summary: "They spoke of <b>sheep</b>.", source: "threshold", usage_percent: 71 };
    render(<Summary call={call} answered={answered(JSON.stringify(told))} />);
    expect(screen.getByText(/Summarised here, before the model's context was full: 71 % of the context/)).toBeTruthy();
    expect(screen.getByText("They spoke of <b>sheep</b>.")).toBeTruthy();
  });

  test("that failed says so in the server's words", () => {
    render(<Summary call={call} answered={answered("The summary failed: too long", true)} />);
    expect(screen.getByText("The summary failed: too long")).toBeTruthy();
  });

  test.each(["", "no JSON", "[]", "null", "3", '{"summary": 3}'])(
    "of which the result is %s is shown as it is",
    (json) =>
      expect(toldOf(json, call.arguments)).toMatchObject({ summary: json, why: "because somebody asked for it" }),
  );
});

test("that an answer is gone on with is known until another one is begun", () => {
  const events: ChatEvent[] = [
    { type: "attempt", attempt: 1 },
    { type: "resumed", attempt: 1, how: "continued" },
  ];
  const resumed = events.reduce((view, event) => applied(view, "", event), EMPTY_VIEW);
  expect(resumed.resumed).toBe("continued");
  expect(applied(resumed, "", { type: "attempt", attempt: 2 }).resumed).toBeNull();
});
