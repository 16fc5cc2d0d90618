import { render } from "@testing-library/react";
import { expect, test } from "vitest";
import { Time } from "../src/ui/Time.tsx";

const soon = new Date(Date.now() + 3_600_000).toISOString();
const words = (shown: React.ReactNode) => render(shown).container.textContent;

test("what has happened is not told as being to come, where this machine's clock is behind", () => {
  expect(words(<Time at={soon} />)).toBe("just now");
});

test("what is to come is", () => {
  expect(words(<Time at={soon} isAhead />)).toMatch(/59/);
});
