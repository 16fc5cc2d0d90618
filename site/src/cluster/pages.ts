/** Lists that are read page by page: a page holds less than what is shown of it. */

export const PAGE_ROWS = 100;

export type Rows<R> = { rows: R[]; has_more: boolean };

/** The first so many pages, each asked for with the last row of the one before. */
export async function readPages<A extends { has_more: boolean }, R>(
  pages: number,
  read: (last: R | undefined) => Promise<A>,
  rowsOf: (answer: A) => readonly R[],
): Promise<Rows<R>> {
  const rows: R[] = [];
  for (let page = 1; ; page++) {
    const answer = await read(rows.at(-1));
    rows.push(...rowsOf(answer));
    if (!answer.has_more || page >= pages) return { rows, has_more: answer.has_more };
  }
}
