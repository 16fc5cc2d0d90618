/** The one who is signed in, by a cookie that scripts cannot read; nothing of it is kept in the browser's storage. */

import { useQuery } from "@tanstack/react-query";
import { forgetAttachments } from "./chat/attachments.ts";
import { forgetDrafts } from "./chat/drafts.ts";
import { forgetSeen } from "./chat/seen.ts";
import { ApiError } from "./client/index.ts";
import { api, queries, tab } from "./server.ts";
import { say } from "./ui/Toast.tsx";

export type Session = { user_id: string; name: string; admin: boolean; expires_at?: string | null };

const KEY = ["session"];
const SESSION = { queryKey: KEY, queryFn: readSession, staleTime: Number.POSITIVE_INFINITY };

/** The session; `null` where there is none. */
export const useSession = () => useQuery<Session | null>(SESSION);

/** Begin to read it: nothing is shown before it is known. */
export const readSessionAhead = () => void queries.prefetchQuery(SESSION);

/** A link's one-time code, until it was of use or is of none. */
let code: string | null = null;

/**
 * The query function. A link signs in where nobody is: anybody can make one for a session of their own, and whoever
 * follows it would go on in there without knowing.
 */
export async function readSession(): Promise<Session | null> {
  code = takeCode() ?? code;
  const session = await unlessRefused(api.get<Session>("/session"));
  if (session && code) say(`You are signed in as ${session.name}. To follow a sign-in link, sign out first.`);
  const opened = session ?? (code ? await unlessRefused(api.post<Session>("/session", { code })) : null);
  code = null;
  return opened;
}

/** `null` in the place of a 401. */
async function unlessRefused<T>(answer: Promise<T>): Promise<T | null> {
  try {
    return await answer;
  } catch (error) {
    if (isUnauthenticated(error)) return null;
    throw error;
  }
}

/** The code in the address, which it is taken out of: it is nobody else's business, and of use once. */
function takeCode(): string | null {
  const found = new URLSearchParams(location.hash.slice(1)).get("code");
  if (found) history.replaceState(history.state, "", location.pathname + location.search);
  return found;
}

export async function signIn(token: string): Promise<void> {
  queries.setQueryData(KEY, await api.post<Session>("/session", { token }));
}

/** End the session here and on every replica, and keep nothing of what was written and seen in it. */
export async function signOut(): Promise<void> {
  await api.delete("/session");
  endSession();
  forgetAttachments();
  forgetDrafts();
  forgetSeen();
}

/** There is no session any more: show the sign-in, and nothing of the one before. */
export function endSession(): void {
  if (!queries.getQueryData(KEY)) return;
  tab.close();
  queries.removeQueries({ predicate: (query) => query.queryKey[0] !== KEY[0] });
  queries.setQueryData(KEY, null);
}

export function isUnauthenticated(error: unknown): boolean {
  return error instanceof ApiError && error.status === 401;
}

/** Whatever is answered 401, a read, a write or the stream, ends the session here. Returns how to stop looking. */
export function endSessionWhenRefused(): () => void {
  return api.onRefusal((error) => void (isUnauthenticated(error) && endSession()));
}
