/** The one who is signed in, by a cookie that scripts cannot read; nothing of it is kept in the browser's storage. */

import { useQuery } from "@tanstack/react-query";
import { ApiError } from "./client/index.ts";
import { api, queries, tab } from "./server.ts";

export type Session = { user_id: string; name: string; admin: boolean; expires_at?: string | null };

const KEY = ["session"];

/** The session; `null` where there is none. */
export function useSession() {
  return useQuery<Session | null>({ queryKey: KEY, queryFn: readSession, staleTime: Number.POSITIVE_INFINITY });
}

/** The query function: a link's one-time code first, once. */
async function readSession(): Promise<Session | null> {
  const code = takeCode();
  if (code) {
    try {
      return await api.post<Session>("/session", { code });
    } catch (error) {
      if (!isUnauthenticated(error)) throw error; // used before: an earlier session may still be there
    }
  }
  try {
    return await api.get<Session>("/session");
  } catch (error) {
    if (isUnauthenticated(error)) return null;
    throw error;
  }
}

/** The code in the address, which it is taken out of: it is nobody else's business, and of use once. */
function takeCode(): string | null {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (code) history.replaceState(history.state, "", location.pathname + location.search);
  return code;
}

export async function signIn(token: string): Promise<void> {
  queries.setQueryData(KEY, await api.post<Session>("/session", { token }));
}

/** End the session here and on every replica. */
export async function signOut(): Promise<void> {
  await api.delete("/session");
  endSession();
}

/** There is no session any more: show the sign-in, and nothing of the one before. */
export function endSession(): void {
  if (queries.getQueryData(KEY) === null) return;
  tab.close();
  queries.removeQueries({ predicate: (query) => query.queryKey[0] !== KEY[0] });
  queries.setQueryData(KEY, null);
}

export function isUnauthenticated(error: unknown): boolean {
  return error instanceof ApiError && error.status === 401;
}

/** Whatever is answered 401, a read, a write or the stream, ends the session here. Returns how to stop looking. */
export function endSessionWhenRefused(): () => void {
  const look = (error: unknown) => isUnauthenticated(error) && endSession();
  const stops = [
    queries.getQueryCache().subscribe((event) => void (event.type === "updated" && look(event.query.state.error))),
    queries.getMutationCache().subscribe((event) => void look(event.mutation?.state.error)),
    tab.connection.subscribe(() => void look(tab.connection.get().error)),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}
