import { expect, test, vi } from "vitest";
import { Store } from "../src/client/store.ts";

/** A store whose frames come when the test says. */
function stored(value: number) {
  let frame: (() => void) | null = null;
  const store = new Store(value, (flush) => {
    frame = flush;
    return () => {
      frame = null;
    };
  });
  const told = vi.fn();
  store.subscribe(() => told(store.get()));
  return { store, told, frame: () => frame?.() };
}

test("what happens within a frame is told once, as it is then", () => {
  const { store, told, frame } = stored(0);
  for (let value = 1; value <= 600; value++) store.set(value);
  expect(store.get()).toBe(0);
  expect(store.now).toBe(600);
  frame();
  expect(told.mock.calls).toEqual([[600]]);
});

test("a value that came back to what was told is not told", () => {
  const { store, told, frame } = stored(0);
  store.set(1);
  store.set(0);
  frame();
  expect(told).not.toHaveBeenCalled();
});

test("a hidden tab, which has no frames, is told by a timer", () => {
  vi.useFakeTimers();
  vi.stubGlobal("requestAnimationFrame", () => 1);
  vi.stubGlobal("cancelAnimationFrame", () => {});
  const store = new Store(0);
  const told = vi.fn();
  store.subscribe(told);
  store.set(1);
  vi.advanceTimersByTime(1000);
  expect(told).toHaveBeenCalledTimes(1);
  vi.unstubAllGlobals();
  vi.useRealTimers();
});
