import type { ReactNode } from "react";

export type Column<Row> = { name: string; cell: (row: Row) => ReactNode; isNumber?: boolean };

type TableProps<Row> = {
  label: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  rowKey: (row: Row) => string | number;
};

/** A table that scrolls sideways where it is too wide. */
export function Table<Row>({ label, columns, rows, rowKey }: TableProps<Row>) {
  return (
    <section
      aria-label={label}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard
      tabIndex={0}
      className="relative overflow-x-auto rounded-xl border border-line print:overflow-visible"
    >
      <table className="w-full border-collapse text-sm">
        <thead className="bg-side text-left text-xs text-soft">
          <tr>
            {columns.map(({ name, isNumber }) => (
              <th
                key={name}
                scope="col"
                className={`whitespace-nowrap px-3 py-2 font-semibold ${isNumber ? "text-right" : ""}`}
              >
                {name || <span className="sr-only">Actions</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={rowKey(row)} className="border-t border-line hover:bg-side">
              {columns.map(({ name, cell, isNumber }) => (
                <td
                  key={name}
                  className={`px-3 py-1.5 ${isNumber ? "whitespace-nowrap text-right tabular-nums" : name ? "min-w-20" : "text-right"}`}
                >
                  {cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

const TONES = {
  good: "bg-good-tint text-good",
  warn: "bg-warn-tint text-warn",
  bad: "bg-bad-tint text-bad",
  plain: "bg-raised text-ink",
};

export function Badge({ tone, children }: { tone: keyof typeof TONES; children: ReactNode }) {
  return (
    <span className={`inline-block whitespace-nowrap rounded-full px-2 text-xs leading-5 font-medium ${TONES[tone]}`}>
      {children}
    </span>
  );
}

/** What has a name, and the address below it, where it has room. */
export function Addressed({ name, address }: { name: string; address: string }) {
  return (
    <div className="min-w-40">
      <div className="foreign font-medium">{name}</div>
      <code className="foreign block font-mono text-xs text-soft">{address}</code>
    </div>
  );
}
