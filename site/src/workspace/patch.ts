/** What `git diff` says, file by file. Pure. */

import type { Schemas } from "../client/index.ts";

export type DiffFile = Schemas["DiffFile"];
export type FileChange = { file: DiffFile; lines: readonly string[] };

/** The files of a diff, each with its lines of the patch. A file that git does not track has none. */
export function changesIn(files: readonly DiffFile[], patch: string): readonly FileChange[] {
  const pieces = new Map(piecesOf(patch).map((lines) => [pathIn(lines), lines]));
  const known = files.map((file) => {
    const lines = pieces.get(file.path) ?? [];
    pieces.delete(file.path);
    return { file, lines: hunksIn(lines) };
  });
  const others = [...pieces].map(([path, lines]) => ({ file: { path, status: "modified" }, lines: hunksIn(lines) }));
  return [...known, ...others];
}

/** A line of a file begins with a space, a plus or a minus: `diff` at the beginning is git's own. */
function piecesOf(patch: string): readonly string[][] {
  const pieces: string[][] = [];
  for (const line of patch.replace(/\n$/, "").split("\n")) {
    if (line.startsWith("diff --git ")) pieces.push([line]);
    else pieces.at(-1)?.push(line);
  }
  return pieces;
}

function hunksIn(lines: readonly string[]): readonly string[] {
  const from = lines.findIndex((line) => line.startsWith("@@ "));
  return from < 0 ? [] : lines.slice(from);
}

function pathIn(lines: readonly string[]): string {
  const head = lines.slice(0, Math.max(1, lines.length - hunksIn(lines).length));
  for (const mark of ["rename to ", "copy to ", "+++ ", "--- "]) {
    const found = head.find((line) => line.startsWith(mark));
    const name = found && unquoted(found.slice(mark.length).replace(/\t$/, ""));
    if (name && name !== "/dev/null") return mark.endsWith("to ") ? name : name.slice(2);
  }
  return pathTwice((lines[0] as string).slice("diff --git ".length));
}

/** Of a file without lines there is `a/path b/path` alone. */
function pathTwice(names: string): string {
  return unquoted(names.slice((names.length + 1) / 2)).slice(2);
}

const ESCAPES: Record<string, number> = { a: 7, b: 8, t: 9, n: 10, v: 11, f: 12, r: 13 };

/** Git quotes names with unusual characters, byte by byte. */
function unquoted(name: string): string {
  if (!name.startsWith('"')) return name;
  const bytes: number[] = [];
  for (const [, octal, escaped, plain] of name.slice(1, -1).matchAll(/\\([0-7]{3})|\\(.)|([^\\])/gu)) {
    if (octal) bytes.push(Number.parseInt(octal, 8));
    else if (escaped && escaped in ESCAPES) bytes.push(ESCAPES[escaped] as number);
    else bytes.push(...new TextEncoder().encode(escaped ?? plain ?? ""));
  }
  return new TextDecoder().decode(new Uint8Array(bytes));
}
