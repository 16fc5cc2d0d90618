/** JSON as people read it. Its text stays as it is: numbers keep all their digits, and names that are there twice stand there twice. Pure. */

import { MEANT, UNSEEN } from "../workspace/visible.ts";

const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gs;
const OPENING: ReadonlySet<string> = new Set(["{", "["]);
const CLOSING: ReadonlySet<string> = new Set(["}", "]"]);
const STEP = "  ";

/** Indented. Throws for what is no JSON. */
export function indented(json: string): string {
  JSON.parse(json);
  const tokens = json.match(TOKENS) ?? [];
  let margin = "\n";
  let written = "";
  for (const [at, token] of tokens.entries()) {
    if (CLOSING.has(token)) {
      margin = margin.slice(0, -STEP.length);
      written += OPENING.has(tokens[at - 1] ?? "") ? token : margin + token;
    } else if (OPENING.has(token)) {
      margin += STEP;
      written += CLOSING.has(tokens[at + 1] ?? "") ? token : token + margin;
    } else written += token === "," ? token + margin : token === ":" ? ": " : token;
  }
  return written;
}

/** The same JSON, in which nothing is hidden: what is not seen, or turns the text around, is escaped; but for what is meant. */
export const plain = (json: string): string =>
  json.replace(UNSEEN, (hidden) => (MEANT.includes(hidden) ? hidden : escaped(hidden)));

const escaped = (text: string) =>
  text
    .split("")
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
    .join("");
