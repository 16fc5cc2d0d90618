import { describe, expect, test } from "vitest";
import { changesIn, type DiffFile } from "../src/workspace/patch.ts";
import { printed, visible } from "../src/workspace/visible.ts";

const file = (path: string, more: Partial<DiffFile> = {}): DiffFile => ({ path, status: "modified", ...more });
const patchOf = (...pieces: string[]) => `${pieces.join("\n")}\n`;

describe("a diff, file by file", () => {
  test("each file has its lines, from the first hunk on", () => {
    const patch = patchOf(
      "diff --git a/a.py b/a.py\nindex 1..2 100644\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x\n+y",
      "diff --git a/b b b/b b\nnew file mode 100644\n--- /dev/null\n+++ b/b b\t\n@@ -0,0 +1 @@\n+z",
    );
    expect(changesIn([file("a.py"), file("b b")], patch).map(({ lines }) => lines)).toEqual([
      ["@@ -1 +1 @@", "-x", "+y"],
      ["@@ -0,0 +1 @@", "+z"],
    ]);
  });

  test("a line that looks like a header is a line", () => {
    const lines = ["@@ -1,2 +1,2 @@", " diff --git a/x b/x", "+++ b/other", "-rename to z"];
    const patch = patchOf("diff --git a/x b/x\n--- a/x\n+++ b/x", ...lines);
    expect(changesIn([file("x")], patch)).toEqual([{ file: file("x"), lines }]);
  });

  test.each([
    [
      "a name that git quotes",
      'diff --git "a/\\303\\244\\"\\t.txt" "b/\\303\\244\\"\\t.txt"\nBinary files differ',
      'ä"\t.txt',
    ],
    ["a file without lines", "diff --git a/a b c b/a b c\nold mode 100644\nnew mode 100755", "a b c"],
    ["a deleted file", "diff --git a/x b/x\n--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-x", "x"],
    ["a renamed file", "diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y", "y"],
  ])("knows %s", (_, piece, path) => {
    expect(changesIn([file(path)], patchOf(piece))).toHaveLength(1);
  });

  test("what belongs to no file that is known is told, too", () => {
    const patch = patchOf("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-x\n+y");
    expect(changesIn([file("new", { status: "untracked" })], patch).map(({ file: { path } }) => path)).toEqual([
      "new",
      "x",
    ]);
  });

  test.each(["", "no diff at all", 'diff --git "a/\\777 b', "diff --git "])("survives %j", (patch) => {
    expect(changesIn([], patch).length).toBeLessThanOrEqual(1);
  });
});

describe("text of strangers", () => {
  test("is not read in another order than it runs in, and hides nothing", () => {
    expect(visible("a\u202Eb\u0000c\u200Bd\te\nf")).toBe("a⟨U+202E⟩b⟨U+0000⟩c⟨U+200B⟩d\te\nf");
  });

  test.each([
    ["\u3164", "⟨U+3164⟩"],
    ["\u00ad", "⟨U+00AD⟩"],
    ["\u2028", "⟨U+2028⟩"],
    ["\ufe01", "⟨U+FE01⟩"],
    ["\u{E0041}", "⟨U+E0041⟩"],
    ["\u{E0101}", "⟨U+E0101⟩"],
    ["❤\ufe0f", "❤\ufe0f"],
  ])("names %j, in which programs have been hidden", (hidden, named) => {
    expect(visible(`a${hidden}b`)).toBe(`a${named}b`);
  });

  test("is shown as a terminal would show it in the end", () => {
    expect(printed("\u001b[31mred\u001b[0m 1 %\r 50 %\r100 %\r\nnext\u001b]0;title\u0007", 1000)).toBe("100 %\nnext");
  });

  test("is shown from its end, if there is much", () => {
    expect(printed("0123456789", 4)).toBe("6789");
  });
});
