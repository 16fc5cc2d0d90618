import { describe, expect, test } from "vitest";
import { readPages } from "../src/cluster/pages.ts";

/** Seven rows, three to a page, as a route with `before` or `after` answers them. */
async function read(last: number | undefined): Promise<{ numbers: number[]; has_more: boolean }> {
  const rest = [1, 2, 3, 4, 5, 6, 7].filter((number) => number > (last ?? 0));
  return { numbers: rest.slice(0, 3), has_more: rest.length > 3 };
}

const shown = (pages: number) => readPages(pages, read, ({ numbers }) => numbers);

describe("a list that is longer than a page", () => {
  test("goes on where the page before ended, up to as many pages as are asked for", async () => {
    expect(await shown(1)).toEqual({ rows: [1, 2, 3], has_more: true });
    expect(await shown(2)).toEqual({ rows: [1, 2, 3, 4, 5, 6], has_more: true });
  });

  test("ends with its last page", async () => {
    expect(await shown(9)).toEqual({ rows: [1, 2, 3, 4, 5, 6, 7], has_more: false });
  });
});
