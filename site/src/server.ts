/** This page's server: the API at its own origin, what was read of it, and the one stream of this tab. */

import { QueryClient } from "@tanstack/react-query";
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

export const tab = new Tab({ api, onList: takeChange, onListReset: () => void readListsAgain() });

export const readListsAgain = () => queries.invalidateQueries({ queryKey: ["chats"] });

export type ChatPage = { chats: Chat[]; has_more: boolean };
export type ChatPages = { pages: ChatPage[]; pageParams: unknown[] };

/** By which what has changed in the workspace of a chat is kept. */
export const diffKey = (chatId: string) => ["diff-status", chatId] as const;

/** Take a change in, wherever the chat is shown. One of a kind that is not known here is passed over. */
export function takeChange({ change, chatId, chat, diff }: ListChange): void {
  if (diff) takeDiff(chatId, diff);
  if (change === "deleted") forgetChat(chatId);
  if (!chat) return;
  const isKnown = takeChat(chat);
  if (!isKnown || change === "archived" || change === "unarchived" || change === "created") void readListsAgain();
}

/** That there are changes tells of a workspace, too, if none was known. */
function takeDiff(chatId: string, diff: DiffStatus): void {
  queries.setQueryData<DiffStatus | null>(diffKey(chatId), (known) =>
    known && known.version > diff.version ? known : diff,
  );
  if (queries.getQueryData<Chat>(["chat", chatId])?.workspace === null) {
    void queries.invalidateQueries({ queryKey: ["chat", chatId], exact: true });
  }
}

/** A chat as the server answered it last: older answers are passed over. Returns whether a list has it. */
export function takeChat(chat: Chat): boolean {
  // What lists say of a chat is not all that is known of it.
  queries.setQueryData<Chat>(["chat", chat.id], (known) => ({ ...known, ...newer(known, chat) }));
  let isKnown = false;
  queries.setQueriesData<ChatPages>({ queryKey: ["chats"] }, (lists) => {
    if (!lists) return lists;
    const replaced = (known: Chat): Chat => {
      if (known.id !== chat.id) return known;
      isKnown = true;
      return newer(known, chat);
    };
    return { ...lists, pages: lists.pages.map((page) => ({ ...page, chats: page.chats.map(replaced) })) };
  });
  return isKnown;
}

function newer(known: Chat | undefined, chat: Chat): Chat {
  return known && known.snapshot_version > chat.snapshot_version ? known : chat;
}

/** A chat that is gone. */
export function forgetChat(id: string): void {
  queries.removeQueries({ queryKey: ["chat", id], exact: true });
  queries.removeQueries({ queryKey: ["messages", id] });
  queries.setQueriesData<ChatPages>(
    { queryKey: ["chats"] },
    (lists) =>
      lists && {
        ...lists,
        pages: lists.pages.map((page) => ({ ...page, chats: page.chats.filter((chat) => chat.id !== id) })),
      },
  );
}
