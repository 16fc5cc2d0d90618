/** What was seen of each chat: its history when it was last open here. Kept in this browser. */

import { useEffect } from "react";
import { type Chat, Store } from "../client/index.ts";
import { keep, kept, onKeptElsewhere } from "../ui/kept.ts";

const KEY = "seen";
const CHATS_MAX = 500;

type Seen = Record<string, number>;

let store: Store<Seen> | null = null;

export function seen(): Store<Seen> {
  store ??= followed(new Store(read()));
  return store;
}

/** What another tab has seen is seen. */
function followed(shared: Store<Seen>): Store<Seen> {
  onKeptElsewhere(KEY, () => shared.set(read()));
  return shared;
}

function read(): Seen {
  try {
    const found: unknown = JSON.parse(kept(KEY) || "{}");
    return typeof found === "object" && found !== null ? (found as Seen) : {};
  } catch {
    return {};
  }
}

/** Whether something came since; chats that were never open here are not told. */
export function isUnread(chat: Chat, known: Seen): boolean {
  const version = known[chat.id];
  return (
    version !== undefined && chat.snapshot_version > version && chat.status !== "running" && chat.status !== "pending"
  );
}

export function markSeen(chat: Chat): void {
  const known = seen().now;
  if ((known[chat.id] ?? -1) >= chat.snapshot_version) return;
  const { [chat.id]: _, ...others } = known;
  const entries = [...Object.entries(others), [chat.id, chat.snapshot_version] as const].slice(-CHATS_MAX);
  const next = Object.fromEntries(entries);
  seen().set(next);
  keep(KEY, JSON.stringify(next));
}

/** The chat is on the page, as it is now. Whoever looks at another tab sees it when they are back. */
export function useSeen(chat: Chat | undefined, isShown: boolean): void {
  useEffect(() => {
    if (!chat || !isShown) return;
    const look = () => {
      if (document.visibilityState === "visible") markSeen(chat);
    };
    look();
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, [chat, isShown]);
}

/** Nothing was seen, by whoever signs in next. */
export function forgetSeen(): void {
  keep(KEY, "");
  store?.set({});
}
