/** Axe's rules, and no scrolling sideways: in both colour schemes and on a narrow screen. */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "playwright-core";
import { expect } from "vitest";
import type { View } from "./page.ts";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const NARROW: View = { width: 320, height: 640 };

export const VIEWS: [string, View][] = [
  ["light", {}],
  ["dark", { dark: true }],
  ["narrow", NARROW],
];

type Violation = { id: string; nodes: { html: string; failureSummary: string }[] };

/** Without the guards that hand the focus on at the edges of a layer: they are hidden and focusable, which is their work. */
export async function expectAccessible(page: Page, state: string): Promise<void> {
  await page.evaluate(AXE);
  // What fades in has no contrast yet; what turns for ever is left to turn.
  await page.waitForFunction(() =>
    document
      .getAnimations()
      .every((one) => one.playState !== "running" || one.effect?.getTiming().iterations === Infinity),
  );
  const { violations } = await page.evaluate(() =>
    (window as unknown as { axe: { run: (what: object) => Promise<{ violations: Violation[] }> } }).axe.run({
      exclude: [["[data-base-ui-focus-guard]"]],
    }),
  );
  const told = violations.map(
    ({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("\n")}`,
  );
  expect(told, state).toEqual([]);
  const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  expect(wider, `${state}: scrolls sideways`).toBeLessThanOrEqual(0);
}
