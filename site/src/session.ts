/** The one who is signed in, by a cookie that scripts cannot read; nothing of it is kept in the browser's storage. */

import { useQuery } from "@tanstack/react-query";
import { forgetAttachments, putAttachmentsAway } from "./chat/attachments.ts";
import { forgetDrafts } from "./chat/drafts.ts";
import { forgetSeen } from "./chat/seen.ts";
import { ApiError } from "./client/index.ts";
import { api, forgetTold, queries, tab } from "./server.ts";
import { keep, kept, onKeptElsewhere } from "./ui/kept.ts";
import { forgetToasts, say, warn } from "./ui/Toast.tsx";

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
  if (code && !opened) warn("This sign-in link was used before, or has expired. `chatcluster link` makes a new one.");
  code = null;
  if (opened) keepFor(opened);
  if (opened && !session) void endPushOfOthers();
  return opened;
}

let hasEnded = false;

/** Whether somebody was signed in here until a moment ago who did not sign out here. */
export const sessionHasEnded = (): boolean => hasEnded;

/** Whose it is what this browser keeps. The tabs of a browser have one cookie, so they tell each other by it. */
const USER = "user";

/**
 * What is kept is one user's: of the one before, whose session may have ended by itself, nobody else finds anything; nor of
 * one who signed out, of what another tab has kept since.
 */
function keepFor({ user_id: user }: Session): void {
  if (kept(USER) !== user) forgetWhatIsKept();
  keep(USER, user);
}

/** Where that cannot be asked now, it is at the next sign-in. */
const endPushOfOthers = () => import("./push.ts").then((push) => push.endPushOfOthers()).catch(() => {});

function forgetWhatIsKept(): void {
  forgetAttachments();
  forgetDrafts();
  forgetSeen();
  keep(USER, "");
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
  const found = codeInAddress();
  if (found) history.replaceState(history.state, "", location.pathname + location.search);
  return found;
}

const codeInAddress = () => new URLSearchParams(location.hash.slice(1)).get("code");

export async function signIn(token: string): Promise<void> {
  const opened = await api.post<Session>("/session", { token });
  keepFor(opened);
  void endPushOfOthers();
  queries.setQueryData(KEY, opened);
}

/** End the session here and on every replica, and keep nothing of what was written and seen in it. */
export async function signOut(): Promise<void> {
  await api.delete("/session");
  endSession();
  hasEnded = false;
  forgetWhatIsKept();
}

/** There is no session any more: show the sign-in, and nothing of the one before. */
function endSession(): void {
  if (!queries.getQueryData(KEY)) return;
  hasEnded = true;
  tab.close();
  putAttachmentsAway();
  forgetToasts();
  queries.removeQueries({ predicate: (query) => query.queryKey[0] !== KEY[0] });
  forgetTold();
  queries.setQueryData(KEY, null);
}

/**
 * Another tab has signed somebody in or out: so it has here. A page that the browser had put away heard nothing of it, and
 * looks when it is back. Returns how to stop looking.
 */
export function followOtherTabs(): () => void {
  const look = (user: string) => {
    if (user === (queries.getQueryData<Session | null>(KEY)?.user_id ?? "")) return;
    endSession();
    void queries.invalidateQueries({ queryKey: KEY });
  };
  const back = ({ persisted }: PageTransitionEvent) => persisted && look(kept(USER));
  const stop = onKeptElsewhere(USER, ({ to }) => look(to));
  window.addEventListener("pageshow", back);
  return () => {
    stop();
    window.removeEventListener("pageshow", back);
  };
}

/** Follow a sign-in link that is opened where the page is open: nothing but the fragment of its address changes. Returns how to stop that. */
export function followLinks(): () => void {
  const look = () => void (codeInAddress() !== null && queries.invalidateQueries({ queryKey: KEY }));
  window.addEventListener("hashchange", look);
  return () => window.removeEventListener("hashchange", look);
}

export function isUnauthenticated(error: unknown): boolean {
  return error instanceof ApiError && error.status === 401;
}

/** Whatever is answered 401, a read, a write or the stream, ends the session here. Returns how to stop looking. */
export function endSessionWhenRefused(): () => void {
  return api.onRefusal((error) => void (isUnauthenticated(error) && endSession()));
}
