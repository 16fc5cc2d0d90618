/** What cannot be shown or loaded is told in its place, and may be tried again. */

import { act, fireEvent, render, screen } from "@testing-library/react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Boundary } from "../src/ui/Boundary.tsx";
import { useShortcuts } from "../src/ui/keys.ts";
import { later } from "../src/ui/later.tsx";

beforeEach(() => void vi.spyOn(console, "error").mockImplementation(() => {}));
afterEach(() => void vi.restoreAllMocks());

test("a part that could not be loaded says so, and is loaded at the next try", async () => {
  let isAway = true;
  const Part = later(async () => {
    if (isAway) throw new TypeError("Failed to fetch dynamically imported module");
    return () => <p>there</p>;
  });
  render(
    <>
      <nav>list</nav>
      <Boundary>
        <Part meanwhile="loading" />
      </Boundary>
    </>,
  );
  expect((await screen.findByRole("alert")).textContent).toContain("Failed to fetch");
  expect(screen.getByText("list")).toBeTruthy();
  isAway = false;
  fireEvent.click(screen.getByRole("button", { name: "Try again" }));
  expect(await screen.findByText("there")).toBeTruthy();
});

function Broken(): never {
  throw new RangeError("Invalid time value");
}

test("another page is not held up by what could not be shown before", () => {
  const { rerender } = render(
    <Boundary of="/a">
      <Broken />
    </Boundary>,
  );
  expect(screen.getByRole("alert").textContent).toContain("Invalid time value");
  rerender(
    <Boundary of="/b">
      <p>fine</p>
    </Boundary>,
  );
  expect(screen.getByText("fine")).toBeTruthy();
});

function Keys({ run, layer }: { run: () => void; layer?: string }) {
  useShortcuts([{ keys: "?", what: "help", run }]);
  return layer ? <div role={layer} /> : null;
}

test.each([
  [undefined, 1],
  ["dialog", 0],
  ["alertdialog", 0],
  ["menu", 0],
])("keys are the page's unless something lies over it: %s", (layer, times) => {
  const run = vi.fn();
  render(<Keys run={run} {...(layer && { layer })} />);
  act(() => void fireEvent.keyDown(window, { key: "?" }));
  expect(run).toHaveBeenCalledTimes(times);
});
