/** What was written and not yet sent, kept in this browser for each chat. */

import { useCallback, useState } from "react";

const PREFIX = "chatcluster.draft.";

function kept(key: string): string {
  return localStorage.getItem(PREFIX + key) ?? "";
}

function keep(key: string, text: string): void {
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
