import { render } from "@testing-library/react";
import { expect, test } from "vitest";
import { duration, Time } from "../src/ui/Time.tsx";

const soon = new Date(Date.now() + 3_600_000).toISOString();
const words = (shown: React.ReactNode) => render(shown).container.textContent;

test("what has happened is not told as being to come, where this machine's clock is behind", () => {
  expect(words(<Time at={soon} />)).toBe("now");
});

test("what is to come is", () => {
  expect(words(<Time at={soon} isAhead />)).toMatch(/59/);
});

test.each([
  [999, "999 ms"],
  [1500, "1.5 s"],
  [59_940, "59.9 s"],
  [59_990, "1 min 0 s"],
  [119_700, "2 min 0 s"],
])("%i ms are %s", (ms, told) => expect(duration(ms)).toBe(told));
