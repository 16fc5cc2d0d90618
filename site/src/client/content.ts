/** What a message consists of, as it is written and as it is read: a text, and files that are sent along. */

import type { Content, FilePart, Part } from "./wire.ts";

/** The content of a message: files stand before the words. */
export function contentOf(text: string, files: readonly { file_id: string }[]): Content {
  if (files.length === 0) return text;
  const along = files.map(({ file_id }) => ({ type: "file", file_id }) as const);
  return text.trim() === "" ? along : [...along, { type: "text", text }];
}

export const filesIn = (parts: readonly Part[]): readonly FilePart[] => parts.filter((part) => part.type === "file");
