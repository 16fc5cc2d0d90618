/** This page's server: the API at its own origin, what was read of it, and the one stream of this tab. */

import { QueryClient } from "@tanstack/react-query";
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

export const tab = new Tab({ api, onList: takeChange, onListReset: readListsAgain });

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
    await queries.invalidateQueries({ queryKey: LISTS });
    await new Promise((resolve) => setTimeout(resolve, LISTS_PAUSE_MS));
  }
  isReading = false;
}

export type ChatPage = { chats: Chat[]; has_more: boolean };
export type ChatPages = { pages: ChatPage[]; pageParams: unknown[] };

/** By which what has changed in the workspace of a chat is kept. */
export const diffKey = (chatId: string) => ["diff-status", chatId] as const;

/** Take a change in, wherever the chat is shown. One of a kind that is not known here is passed over. */
export function takeChange({ change, chatId, chat, diff }: ListChange): void {
  if (diff) takeDiff(chatId, diff);
  if (change === "deleted") forgetChat(chatId);
  if (!chat) return;
  const before = listed(chat.id);
  takeChat(chat);
  if (MOVES.has(change) || (before ? before.pinned !== chat.pinned : chat.pinned || isListWhole())) readListsAgain();
}

/** By these a chat comes into a list, or leaves it. */
const MOVES: ReadonlySet<string> = new Set(["created", "archived", "unarchived"]);

const allLists = () => queries.getQueriesData<ChatPages>({ queryKey: LISTS });

/** The chat as a list has it. */
const listed = (id: string): Chat | undefined => allLists().flatMap(([, lists]) => found(lists, id) ?? [])[0];

function found(lists: ChatPages | undefined, id: string): Chat | undefined {
  for (const { chats } of lists?.pages ?? []) {
    const chat = chats.find((one) => one.id === id);
    if (chat) return chat;
  }
}

/** Whether a chat that is in no list is missing there, and is not only older than what was read. */
function isListWhole(): boolean {
  return allLists().some(([[, filter], lists]) => isPlain(filter) && lists?.pages.at(-1)?.has_more === false);
}

const isPlain = (filter: unknown): boolean => !(filter as { pinned?: boolean } | undefined)?.pinned;

/** That there are changes tells of a workspace, too, if none was known. */
function takeDiff(chatId: string, diff: DiffStatus): void {
  queries.setQueryData<DiffStatus | null>(diffKey(chatId), (known) =>
    known && known.version > diff.version ? known : diff,
  );
  if (queries.getQueryData<Chat>(["chat", chatId])?.workspace === null) {
    void queries.invalidateQueries({ queryKey: ["chat", chatId], exact: true });
  }
}

/** A chat as the server answered it last: older answers are passed over. */
export function takeChat(chat: Chat): void {
  // What lists say of a chat is not all that is known of it.
  const now = queries.setQueryData<Chat>(["chat", chat.id], (known) => ({ ...known, ...newer(known, chat) }));
  if (now && AT_REST.has(now.status)) forgetAnswers(chat.id);
  const replaced = (known: Chat): Chat => (known.id === chat.id ? newer(known, chat) : known);
  queries.setQueriesData<ChatPages>({ queryKey: LISTS }, (lists) =>
    lists && found(lists, chat.id)
      ? { ...lists, pages: lists.pages.map((page) => ({ ...page, chats: page.chats.map(replaced) })) }
      : lists,
  );
}

const AT_REST: ReadonlySet<string> = new Set(["waiting", "error"]);

function newer(known: Chat | undefined, chat: Chat): Chat {
  return known && known.snapshot_version > chat.snapshot_version ? known : chat;
}

/** A chat that is gone. */
export function forgetChat(id: string): void {
  forgetDraftsOf(id);
  queries.removeQueries({ queryKey: ["chat", id], exact: true });
  queries.removeQueries({ queryKey: ["messages", id] });
  queries.setQueriesData<ChatPages>(
    { queryKey: LISTS },
    (lists) =>
      lists && {
        ...lists,
        pages: lists.pages.map((page) => ({ ...page, chats: page.chats.filter((chat) => chat.id !== id) })),
      },
  );
}
