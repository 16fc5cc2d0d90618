/** What one does with a chat as a whole. Each says what failed; the list is brought along by the answers. */

import { ApiError, type Chat } from "../client/index.ts";
import { api, forgetChat, readListsAgain, takeChat } from "../server.ts";
import { say, sayError } from "../ui/Toast.tsx";

export type ChatPatch = { archived: boolean } | { pinned: boolean };

export async function patchChat(chat: Chat, patch: ChatPatch, doing: string): Promise<void> {
  try {
    takeChat(await api.patch<Chat>(`/chats/${chat.id}`, patch));
    readListsAgain();
  } catch (error) {
    sayError(doing, error);
  }
}

/** Have the model summarise a chat that rests: from then on it is told the summary in the place of what came before. */
export async function compactChat(chat: Chat): Promise<void> {
  try {
    takeChat(await api.post<Chat>(`/chats/${chat.id}/compact`));
  } catch (error) {
    sayError("Summarise", error);
  }
}

/** Whether something was refused because its user has spent what there is. */
export const isLimit = (error: unknown): error is ApiError =>
  error instanceof ApiError && error.code === "usage_limit_exceeded";

/** Whether this is what one looks at still: what comes late takes nobody away from where they went meanwhile. */
export const isAt = (path: string): boolean => location.pathname === path;

const STOP_MS_MAX = 15_000;
const STOP_POLL_MS = 250;

/** Delete a chat for good; one that is answering is stopped first. Returns whether it is gone. */
export async function deleteChat(chat: Chat): Promise<boolean> {
  try {
    await deleteStopped(chat.id, Date.now() + STOP_MS_MAX);
  } catch (error) {
    if (!(error instanceof ApiError && error.code === "chat_not_found")) {
      sayError("Delete", error);
      return false;
    }
  }
  forgetChat(chat.id);
  say(`Deleted “${chat.title}”.`);
  return true;
}

async function deleteStopped(id: string, until: number): Promise<void> {
  for (let hasStopped = false; ; ) {
    try {
      return await api.delete(`/chats/${id}`);
    } catch (error) {
      if (!(error instanceof ApiError && error.code === "chat_busy") || Date.now() > until) throw error;
      if (!hasStopped) await api.post(`/chats/${id}/interrupt`);
      hasStopped = true;
      await new Promise((resolve) => setTimeout(resolve, STOP_POLL_MS));
    }
  }
}
