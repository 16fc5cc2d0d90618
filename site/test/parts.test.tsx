/** Parts of the page that are loaded later: none that cannot be loaded, or is slow to come, takes the rest along. */

import { act, fireEvent, render, screen } from "@testing-library/react";
import { type ReactNode, useState } from "react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ahead, beginLoadingAhead, laterLayer, laterPart } from "../src/ui/parts.tsx";
import { forgetToasts, Toasts } from "../src/ui/Toast.tsx";
import { settled } from "./server.ts";

const AWAY = new TypeError("Failed to fetch dynamically imported module");

/** A file of the page that the server has, has not, or does not answer for. */
let file: "there" | "away" | "silent";
const read =
  <P,>(Component: (props: P) => ReactNode) =>
  async () => {
    if (file === "silent") await new Promise(() => {});
    if (file === "away") throw AWAY;
    return Component;
  };

beforeEach(() => {
  file = "there";
  act(forgetToasts);
});
afterEach(() => void vi.useRealTimers());

function Opener({ Layer }: { Layer: (props: { onClose: () => void }) => ReactNode }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <>
      <p>the page</p>
      <button type="button" onClick={() => setOpen(true)}>
        Open
      </button>
      {isOpen && <Layer onClose={() => setOpen(false)} />}
      <Toasts />
    </>
  );
}

const newLayer = () => laterLayer(read(() => <p>the dialog</p>)) as (props: { onClose: () => void }) => ReactNode;
const open = () => act(async () => void fireEvent.click(screen.getByRole("button", { name: "Open" })));

describe("a dialog", () => {
  test("that cannot be loaded is told, is not open, and is loaded at the next try", async () => {
    file = "away";
    render(<Opener Layer={newLayer()} />);
    await open();
    expect((await screen.findByRole("alert")).textContent).toContain("Opening this failed: Failed to fetch");
    expect(screen.getByText("the page")).toBeTruthy();
    file = "there";
    await open();
    expect(await screen.findByText("the dialog")).toBeTruthy();
  });

  test("that is slow to come says so, and may be given up", async () => {
    vi.useFakeTimers();
    file = "silent";
    render(<Opener Layer={newLayer()} />);
    await open();
    expect(screen.queryByRole("status")).toBeNull();
    act(() => void vi.advanceTimersByTime(600));
    expect(screen.getByRole("status").textContent).toContain("Loading");
    fireEvent.click(screen.getByRole("button", { name: "Cancel" }));
    expect(screen.queryByRole("status")).toBeNull();
  });
});

describe("a part within the page", () => {
  const newPart = () =>
    laterPart(
      "the files",
      read(() => <p>the files</p>),
    );

  test("that cannot be loaded is told in its place, and is loaded at a press", async () => {
    file = "away";
    const Part = newPart();
    render(
      <>
        <p>the page</p>
        <Part meanwhile={<p>their names</p>} />
      </>,
    );
    expect((await screen.findByRole("alert")).textContent).toContain("Loading the files failed");
    expect([screen.getByText("the page"), screen.getByText("their names")]).toHaveLength(2);
    file = "there";
    fireEvent.click(screen.getByRole("button", { name: "Try again" }));
    expect(await screen.findByText("the files")).toBeTruthy();
    expect(screen.queryByRole("alert")).toBeNull();
  });

  test("that is slow to come says so", () => {
    vi.useFakeTimers();
    file = "silent";
    const Part = newPart();
    render(<Part />);
    expect(screen.queryByRole("status")).toBeNull();
    act(() => void vi.advanceTimersByTime(600));
    expect(screen.getByRole("status").textContent).toContain("Loading the files");
  });
});

describe("loaded ahead", () => {
  test("nothing is for a user who saves data", async () => {
    const asked = vi.fn(async () => () => null);
    ahead(laterPart("x", asked));
    vi.stubGlobal("navigator", { connection: { saveData: true } });
    beginLoadingAhead();
    await settled();
    vi.unstubAllGlobals();
    expect(asked).not.toHaveBeenCalled();
  });

  test("all are else: so what one opens is there while no server answers; what failed then is asked for when it is wanted", async () => {
    const Loaded = newLayer();
    beginLoadingAhead();
    await settled();
    file = "away";
    const Missing = newLayer();
    await settled();
    const { unmount } = render(<Opener Layer={Loaded} />);
    await open();
    expect(screen.getByText("the dialog")).toBeTruthy();
    unmount();
    file = "there";
    render(<Opener Layer={Missing} />);
    await open();
    expect(await screen.findByText("the dialog")).toBeTruthy();
  });
});
