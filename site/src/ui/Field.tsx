import type { ReactNode } from "react";

export const INPUT =
  "w-full min-w-0 rounded-lg border border-field bg-page px-3 py-1.5 text-ink disabled:opacity-60 min-h-9";

const ROWS_MAX = 12;
const ROW_CHARACTERS = 60;

/** About how many lines a text has: for browsers that do not size a field by what is in it. */
export const rowsOf = (text: string): number =>
  Math.min(
    ROWS_MAX,
    text.split("\n", ROWS_MAX).reduce((rows, line) => rows + Math.max(1, Math.ceil(line.length / ROW_CHARACTERS)), 0),
  );

export function Field({ label, hint, children }: { label: string; hint?: ReactNode; children: ReactNode }) {
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: the control is among the children
    <label className="flex flex-col gap-1 text-sm">
      <span className="font-medium">{label}</span>
      {children}
      {hint && <span className="text-soft">{hint}</span>}
    </label>
  );
}
