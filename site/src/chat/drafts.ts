/** What was written and not yet sent, kept in this browser for each chat. */

import { useCallback, useState } from "react";
import { randomKey } from "../client/index.ts";

const PREFIX = "chatcluster.draft.";

export function kept(key: string): string {
  return localStorage.getItem(PREFIX + key) ?? "";
}

export function keep(key: string, text: string): void {
  try {
    if (text) localStorage.setItem(PREFIX + key, text);
    else localStorage.removeItem(PREFIX + key);
  } catch {
    // the browser's storage is full: the text stays in the field
  }
}

/** The draft of a chat (or `new`), and how to change it. */
export function useDraft(key: string): [string, (text: string) => void] {
  const [text, setText] = useState(() => kept(key));
  const change = useCallback(
    (next: string) => {
      setText(next);
      keep(key, next);
    },
    [key],
  );
  return [text, change];
}

const attempts = new Map<string, { body: string; key: string }>();

/** The key to send a draft with: the same for the same request until it is done, so that it is done once. */
export function attemptKey(draft: string, request: unknown): string {
  const body = JSON.stringify(request);
  const last = attempts.get(draft);
  if (last?.body === body) return last.key;
  const key = randomKey();
  attempts.set(draft, { body, key });
  return key;
}

/** The draft was taken: the same words again are another message. */
export function attemptDone(draft: string): void {
  attempts.delete(draft);
}

/** Whoever signs in next at this browser sees nothing of them. */
export function forgetDrafts(): void {
  attempts.clear();
  for (const name of Object.keys(localStorage)) if (name.startsWith(PREFIX)) localStorage.removeItem(name);
}
