import { render, screen } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { Parts } from "../src/chat/Message.tsx";
import type { Part, Reasoning } from "../src/client/index.ts";

const thought = (text: string, durationMs?: number): Reasoning => ({
  type: "reasoning",
  text,
  ...(durationMs && { duration_ms: durationMs }),
});

function shown(parts: readonly Part[], isStreaming = false): (string | null)[] {
  render(<Parts parts={parts} results={new Map()} asked={[]} isActive={isStreaming} isStreaming={isStreaming} />);
  return screen.queryAllByRole("group").map((one) => one.querySelector("summary")?.textContent ?? null);
}

describe("what was thought", () => {
  test("says how long it took, as far as that is known", () => {
    expect(shown([thought("Hm.", 4200), { type: "text", text: "A" }, thought("So.")])).toEqual([
      "Thought for 4.2 s",
      "Thought",
    ]);
    expect(screen.getByText("Hm.")).toBeTruthy();
  });

  test("is told as one where it stands together", () => {
    expect(shown([thought("Hm.", 61_000), thought("So.", 1000), { type: "text", text: "A" }])).toEqual([
      "Thought for 1 min 2 s",
    ]);
  });

  test("goes on as long as nothing else has come", () => {
    expect(shown([{ type: "text", text: "A" }, thought("Hm.", 4200)], true)).toEqual(["Thinking …"]);
  });
});
