import { type UseQueryResult, useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useSyncExternalStore } from "react";
import { type ChatView, type Connection, OpenChat, type Page } from "../client/index.ts";
import { api, tab } from "../server.ts";

let leaving: ReturnType<typeof setTimeout> | undefined;
const LEAVE_MS = 300;

/** The tab's stream follows this chat, or the list alone, until another page asks for something else. */
function show(chat: OpenChat | null): void {
  clearTimeout(leaving);
  tab.show(chat);
}

function leave(): void {
  clearTimeout(leaving);
  leaving = setTimeout(() => tab.leave(), LEAVE_MS);
}

/** For pages without a chat: the list is kept up to date. */
export function useListAlone(): void {
  useEffect(() => show(null), []);
}

export type Opened = { chat: OpenChat; view: ChatView; page: UseQueryResult<Page> };

/**
 * A chat that is shown: the page of history that is cached at once, then a fresh one, then the stream from there on.
 * Another chat is another object, so nothing of the one before is left.
 */
export function useOpenChat(id: string): Opened {
  const chat = useMemo(() => new OpenChat(api, id), [id]);
  const page = useQuery({
    queryKey: ["messages", id],
    queryFn: ({ signal }) => chat.page(signal),
    staleTime: 0,
    refetchOnMount: "always",
  });
  useEffect(() => {
    if (!page.data) return;
    chat.hydrate(page.data);
    show(chat);
  }, [chat, page.data]);
  useEffect(() => leave, []);
  const view = useSyncExternalStore(chat.view.subscribe, chat.view.get);
  return { chat, view, page };
}

export function useConnection(): Connection {
  return useSyncExternalStore(tab.connection.subscribe, tab.connection.get);
}
