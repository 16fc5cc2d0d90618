/** Whether a chat has a workspace may change with each call for one. */

import { useEffect, useMemo, useRef } from "react";
import type { Message } from "../client/index.ts";
import { readAgain } from "../server.ts";

const FOR_A_WORKSPACE = new Set(["create_workspace", "start_workspace", "stop_workspace"]);

/** Asks for the workspace of the chat anew when a call that made, started or stopped one has its result. */
export function useWorkspaceFound(chatId: string, messages: readonly Message[]): void {
  const last = useMemo(() => lastCall(messages), [messages]);
  const known = useRef<string | null>(null);
  const isRead = messages.length > 0;
  useEffect(() => {
    if (!isRead) return;
    if (known.current !== null && known.current !== last) {
      void readAgain(["chat", chatId]);
      void readAgain(["workspace"]);
    }
    known.current = last;
  }, [chatId, isRead, last]);
}

/** The last such call that has its result; an empty text if there is none. */
function lastCall(messages: readonly Message[]): string {
  const answered = new Set<string>();
  for (const { parts } of messages.toReversed()) {
    for (const part of parts) {
      if (part.type === "tool_result") answered.add(part.call_id);
      if (part.type === "tool_call" && FOR_A_WORKSPACE.has(part.name) && answered.has(part.id)) return part.id;
    }
  }
  return "";
}
