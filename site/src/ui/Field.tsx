import type { ReactNode } from "react";

export const INPUT =
  "w-full min-w-0 rounded-lg border border-field bg-page px-3 py-1.5 text-ink disabled:opacity-60 min-h-9";

export function Field({ label, hint, children }: { label: string; hint?: string; children: ReactNode }) {
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: the control is among the children
    <label className="flex flex-col gap-1 text-sm">
      <span className="font-medium">{label}</span>
      {children}
      {hint && <span className="text-soft">{hint}</span>}
    </label>
  );
}
