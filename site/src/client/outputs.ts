/**
 * What running calls have printed, as a client keeps it: pieces of output, joined by their offsets. Pure.
 *
 * What is known already is passed over, so it does not matter who tells it how often: after a takeover another replica
 * tells it from the first byte on. Where a piece begins behind what is known something was left out, and what is kept
 * begins anew with that piece. The twin of `call_outputs.py`.
 */

import type { Part } from "./wire.ts";

/** From byte `offset` of the output up to `end`. With an `offset` above 0 it is not all of it. */
export type CallOutput = { offset: number; end: number; text: string };

type Piece = Extract<Part, { type: "tool_output" }>;

const KEPT_CHARACTERS_MAX = 1 << 20;

/** What is known after a further piece. */
export function withPiece(known: CallOutput | undefined, piece: Piece): CallOutput {
  const { offset, end, text } = piece;
  if (!known || offset > known.end) return { offset, end, text };
  if (end <= known.end) return known;
  const more = behind(piece, known.end);
  if (more === null) return { offset, end, text };
  if (known.text.length + more.length > KEPT_CHARACTERS_MAX) return { offset: known.end, end, text: more };
  return { offset: known.offset, end, text: known.text + more };
}

/** What a piece has behind byte `end`; null if it cannot be told, as it has bytes that are no text. */
function behind(piece: Piece, end: number): string | null {
  if (piece.offset === end) return piece.text;
  const data = new TextEncoder().encode(piece.text);
  if (data.length !== piece.end - piece.offset) return null;
  return new TextDecoder().decode(data.subarray(end - piece.offset));
}
