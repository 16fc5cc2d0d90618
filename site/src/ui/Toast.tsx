/** Short words about what was done or failed, above where one writes, as what failed is tried again there. Errors stay until they are dismissed. */

import { X } from "lucide-react";
import { useSyncExternalStore } from "react";
import { ApiError } from "../client/index.ts";
import { IconButton } from "./Button.tsx";

type Toast = { id: number; text: string; isError: boolean };

const SHOWN_MS = 5000;
const SHOWN_MAX = 4;

let toasts: readonly Toast[] = [];
let lastId = 0;
const listeners = new Set<() => void>();

function change(next: readonly Toast[]): void {
  toasts = next;
  for (const listener of listeners) listener();
}

const dismiss = (id: number) => change(toasts.filter((toast) => toast.id !== id));

function add(text: string, isError: boolean): void {
  const id = ++lastId;
  change([...toasts.filter((toast) => toast.text !== text), { id, text, isError }].slice(-SHOWN_MAX));
  if (!isError) setTimeout(() => dismiss(id), SHOWN_MS);
}

export const say = (text: string) => add(text, false);

/** Say what is wrong, until it is dismissed. */
export const warn = (text: string) => add(text, true);

/** What was said is nothing for whoever comes next. */
export const forgetToasts = () => change([]);

/** Say what failed, in the server's words. `doing` is what was tried: "Rename". */
export function sayError(doing: string, error: unknown): void {
  if (error instanceof ApiError && error.status === 401) return; // the sign-in page says it
  add(`${doing} failed: ${error instanceof Error ? error.message : String(error)}`, true);
}

const subscribe = (listener: () => void) => {
  listeners.add(listener);
  return () => void listeners.delete(listener);
};

export function Toasts() {
  const shown = useSyncExternalStore(subscribe, () => toasts);
  return (
    <section
      aria-label="Notifications"
      className="pointer-events-none fixed inset-x-0 bottom-[min(9rem,40dvh)] z-60 flex flex-col items-center gap-2 px-4"
      aria-live="polite"
    >
      {shown.map((toast) => (
        <div
          key={toast.id}
          role={toast.isError ? "alert" : undefined}
          className={`pointer-events-auto flex max-w-lg items-center gap-2 rounded-xl border py-1 pl-4 pr-1.5 text-sm shadow-lg ${
            toast.isError ? "border-bad bg-bad-tint text-bad" : "border-line bg-page"
          }`}
        >
          <span className="foreign py-1">{toast.text}</span>
          <IconButton label="Dismiss" onClick={() => dismiss(toast.id)}>
            <X size={16} aria-hidden />
          </IconButton>
        </div>
      ))}
    </section>
  );
}
