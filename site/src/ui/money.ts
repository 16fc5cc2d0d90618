/** What models cost, as people read it. The API counts in millionths of the currency of the prices, whichever that is. */

import type { Bill } from "../client/index.ts";
import { count, decimal } from "./numbers.ts";

/** Two places at least, and as many as there are: most answers cost less than a hundredth. */
export function money(micros: number | null | undefined): string {
  if (micros == null) return "–";
  const digits = String(Math.abs(micros)).padStart(7, "0");
  return decimal(`${micros < 0 ? "-" : ""}${digits.slice(0, -6)}.${digits.slice(-6)}`, 2, 6);
}

/** The cost of a sum, of which some may not be known. */
export function costOf({ cost_micros, unpriced = 0, attempts = 0 }: Partial<Bill>): string {
  if (cost_micros == null) return attempts ? "not known: its model has no prices" : "nothing yet";
  return money(cost_micros) + (unpriced ? `, and ${unpriced} of ${attempts} attempts of unknown cost` : "");
}

/** The tokens of a sum, or of one answer, and the searches for it. */
export function tokensOf(sum: Partial<Record<keyof Bill, number | null | undefined>>): string {
  const cached = sum.cached_input_tokens ? ` (${count(sum.cached_input_tokens)} from the cache)` : "";
  const thought = sum.reasoning_tokens ? ` (${count(sum.reasoning_tokens)} of it thinking)` : "";
  const searched = sum.searches
    ? `, ${count(sum.searches)} ${sum.searches === 1 ? "search" : "searches"} of the web`
    : "";
  return `${count(sum.input_tokens)} in${cached}, ${count(sum.output_tokens)} out${thought}${searched}`;
}
