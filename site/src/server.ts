/** This page's server: the API at its own origin, what was read of it, and the one stream of this tab. */

import { QueryClient, type QueryKey, replaceEqualDeep } from "@tanstack/react-query";
import { forgetAnswers, forgetDraftsOf } from "./chat/drafts.ts";
import { Api, ApiError, type Chat, type DiffStatus, type ListChange, Tab } from "./client/index.ts";

export type { DiffStatus };

export const api = new Api();

const RETRIES_MAX = 3;

export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 10_000,
      refetchOnWindowFocus: false,
      retry: (failures, error) => error instanceof ApiError && error.isTransient && failures < RETRIES_MAX,
      retryDelay: (failures) => 300 * 2 ** failures,
      networkMode: "always",
    },
    mutations: { networkMode: "always" },
  },
});

export const tab = new Tab({ api, onList: takeChange, onListReset: resetLists });

/** What was told may be lost, as the last moments of a database are with it. */
function resetLists(): void {
  forgetTold();
  readListsAgain();
}

const LISTS = ["chats"] as const;
const LISTS_PAUSE_MS = 500;
let isWanted = false;
let isReading = false;

/**
 * Read all lists again. Who asks meanwhile is answered by the next reading: where chats come by the hundred, one follows
 * the other, and none is broken off.
 */
export function readListsAgain(): void {
  isWanted = true;
  if (!isReading) void readWhileWanted();
}

async function readWhileWanted(): Promise<void> {
  isReading = true;
  while (isWanted) {
    isWanted = false;
    await readAgain(LISTS);
    await new Promise((resolve) => setTimeout(resolve, LISTS_PAUSE_MS));
  }
  isReading = false;
}

/**
 * Read what is kept under this key again, after it has changed. What is being read for the first time is begun anew: it may
 * have been answered before the change.
 */
export async function readAgain(queryKey: QueryKey): Promise<void> {
  await queries.cancelQueries({ queryKey, predicate: ({ state }) => state.data === undefined });
  await queries.invalidateQueries({ queryKey });
}

export type ChatFilter = { q?: string; archived?: boolean; pinned?: boolean };
export type ChatPage = { chats: Chat[]; has_more: boolean };
export type ChatPages = { pages: ChatPage[]; pageParams: unknown[] };

/** By which what has changed in the workspace of a chat is kept. */
export const diffKey = (chatId: string) => ["diff-status", chatId] as const;

/** Take a change in, wherever the chat is shown. One of a kind that is not known here is passed over. */
export function takeChange({ change, chatId, chat, diff }: ListChange): void {
  if (diff) takeDiff(chatId, diff);
  if (change === "deleted") forgetChat(chatId);
  if (!chat) return;
  const known = knownOf(chat.id);
  takeChat(chat);
  if (MOVES.has(change) || known.some(movedTo(chat)) || listsThatCount().some(isWrong(chat, !known.length)))
    readListsAgain();
}

/** By these a chat comes into a list, or leaves it. */
const MOVES: ReadonlySet<string> = new Set(["created", "archived", "unarchived"]);

type List = [key: QueryKey, lists: ChatPages | undefined];
const allLists = (): List[] => queries.getQueriesData<ChatPages>({ queryKey: LISTS });

/** Without those that are not shown, and are to be read again when they are. */
const listsThatCount = (): List[] =>
  queries.getQueriesData<ChatPages>({ queryKey: LISTS, predicate: (it) => it.isActive() || !it.state.isInvalidated });

/** The chat as each list has it, and as it was told. */
function knownOf(id: string): Chat[] {
  const told = queries.getQueryData<Chat>(keyOf(id));
  return [...allLists().flatMap(([, lists]) => found(lists, id) ?? []), ...(told ? [told] : [])];
}

/** Whether a chat is found in other lists than before: what is being read of them may be of before. */
const movedTo = (now: Chat) => (before: Chat) =>
  before.snapshot_version <= now.snapshot_version &&
  (before.pinned !== now.pinned || before.archived !== now.archived || before.title !== now.title);

/**
 * Whether a list has a chat that does not belong there, or lacks one that does: lists that are read together may be of
 * before and after a change. One that nothing was read of yet may lack what is new. Of what is searched for the server judges.
 */
const isWrong =
  (chat: Chat, isNew: boolean) =>
  ([[, filter], lists]: List): boolean => {
    if (!lists) return isNew;
    const { q, archived = false, pinned = false } = filter as ChatFilter;
    const belongs = chat.archived === archived && (chat.pinned || !pinned);
    if (found(lists, chat.id)) return !belongs;
    return belongs && !q && reaches(lists, chat);
  };

/** Whether a chat is not only older than what was read. */
function reaches({ pages }: ChatPages, chat: Chat): boolean {
  const last = pages.at(-1);
  return last?.has_more === false || chat.created_at >= (last?.chats.at(-1)?.created_at ?? "");
}

function found(lists: ChatPages | undefined, id: string): Chat | undefined {
  for (const { chats } of lists?.pages ?? []) {
    const chat = chats.find((one) => one.id === id);
    if (chat) return chat;
  }
}

/** That there are changes tells of a workspace, too, if none was known. */
function takeDiff(chatId: string, diff: DiffStatus): void {
  queries.setQueryData<DiffStatus | null>(diffKey(chatId), (known) =>
    known && known.version > diff.version ? known : diff,
  );
  if (queries.getQueryData<Chat>(keyOf(chatId))?.workspace === null) {
    void queries.invalidateQueries({ queryKey: keyOf(chatId), exact: true });
  }
}

const keyOf = (chatId: string) => ["chat", chatId] as const;

/** A chat as the server answered it last: older answers are passed over. */
export function takeChat(chat: Chat): void {
  note(chat.id, newer(toldOf(chat.id), chat));
  // What lists say of a chat is not all that is known of it.
  const now = amend<Chat>(keyOf(chat.id), (known) => ({ ...known, ...newer(known, chat) }));
  if (now && AT_REST.has(now.status)) forgetAnswers(chat.id);
  const replaced = (known: Chat): Chat => (known.id === chat.id ? newer(known, chat) : known);
  amendLists(chat.id, (chats) => chats.map(replaced));
}

/** Change the lists in which the chat is. */
function amendLists(id: string, change: (chats: Chat[]) => Chat[]): void {
  for (const [key, lists] of allLists()) if (found(lists, id)) amend(key, inEach(change));
}

const inEach = (change: (chats: Chat[]) => Chat[]) => (lists: ChatPages | undefined) =>
  lists && { ...lists, pages: lists.pages.map((page) => ({ ...page, chats: change(page.chats) })) };

/** Change what is kept. It is no fresher by that: what is due to be read again still is. */
function amend<T>(key: QueryKey, change: (kept: T | undefined) => T | undefined): T | undefined {
  const { dataUpdatedAt = 0, isInvalidated = false } = queries.getQueryState(key) ?? {};
  return queries.setQueryData<T>(key, change, { updatedAt: isInvalidated ? 0 : dataUpdatedAt });
}

/** Longer than a reading is on its way. */
const LATELY_MS = 60_000;
type Told = { chat: Chat | null; at: number };
/** What was told of chats lately, the latest last; nothing of one that is gone. */
const told = new Map<string, Told>();

function note(id: string, chat: Chat | null): void {
  const now = Date.now();
  told.delete(id);
  told.set(id, { chat, at: now });
  for (const [other, { at }] of told) {
    if (at > now - LATELY_MS) return;
    told.delete(other);
  }
}

export const forgetTold = (): void => told.clear();

const toldOf = (id: string): Chat | undefined => told.get(id)?.chat ?? undefined;

/** Lists as they were read, brought up to date with what was told while they were on their way. */
export function upToDate(kept: unknown, read: unknown): unknown {
  const isThere = ({ id }: Chat) => told.get(id)?.chat !== null;
  const correct = inEach((chats) => chats.filter(isThere).map((chat) => newer(toldOf(chat.id), chat)));
  return replaceEqualDeep(kept, correct(read as ChatPages));
}

/** All that the server says of a chat. */
export async function chatNow(id: string): Promise<Chat> {
  const chat = await api.get<Chat>(`/chats/${id}`);
  return { ...chat, ...newer(toldOf(id), chat) };
}

const AT_REST: ReadonlySet<string> = new Set(["waiting", "error"]);

function newer(known: Chat | undefined, chat: Chat): Chat {
  return known && known.snapshot_version > chat.snapshot_version ? known : chat;
}

/** A chat that is gone. */
export function forgetChat(id: string): void {
  note(id, null);
  forgetDraftsOf(id);
  queries.removeQueries({ queryKey: keyOf(id), exact: true });
  queries.removeQueries({ queryKey: ["messages", id] });
  amendLists(id, (chats) => chats.filter((chat) => chat.id !== id));
}
