/** What was written and not yet sent, kept in this browser for each chat. */

import { useCallback, useEffect, useState } from "react";
import { type ActionCall, randomKey } from "../client/index.ts";
import { forgetKept, keep, kept, onKeptElsewhere, tellElsewhere } from "../ui/kept.ts";

const PREFIX = "draft.";

export const keptDraft = (key: string): string => kept(PREFIX + key);
export const keepDraft = (key: string, text: string): void => keep(PREFIX + key, text);

type Draft = {
  text: string;
  change: (text: string) => void;
  /** These words were sent. What was written since then, here or in another tab, stays. */
  sent: (words: string) => void;
};

/**
 * The draft of a chat (or `new`). All tabs keep it in one place, and each has a field of its own. Once it was sent, tabs tell
 * each other the words: a field in which just those stand is emptied. That nothing is kept any more says nothing of a field:
 * with the words that were sent a tab may take away those that another has kept in the same moment.
 */
export function useDraft(key: string): Draft {
  const [text, setText] = useState(() => keptDraft(key));
  const change = useCallback(
    (next: string) => {
      setText(next);
      keepDraft(key, next);
      if (next === "") attemptDone(key);
    },
    [key],
  );
  const empty = useCallback(
    (words: string) => {
      setText((mine) => (mine === words ? "" : mine));
      if (keptDraft(key) === words) keepDraft(key, "");
    },
    [key],
  );
  const sent = useCallback(
    (words: string) => {
      empty(words);
      tellElsewhere(sentName(key), words);
    },
    [key, empty],
  );
  useEffect(() => onKeptElsewhere(sentName(key), ({ to: words }) => words && empty(words)), [key, empty]);
  return { text, change, sent };
}

const sentName = (key: string) => `${PREFIX}sent.${key}`;

/** What a message that was sent before is to say instead, until that is sent, or given up. */
export const keptEdit = (chatId: string, messageId: number): string => keptDraft(`edit.${chatId}.${messageId}`);
export const keepEdit = (chatId: string, messageId: number, text: string): void =>
  keepDraft(`edit.${chatId}.${messageId}`, text);

/**
 * What is written, on the page of a chat, into what a call asks, until somebody has answered it: with other arguments it is
 * another question.
 */
export const keptAnswer = (chatId: string, call: AskedCall): string => keptDraft(answerName(chatId, call));
export const keepAnswer = (chatId: string, call: AskedCall, text: string): void =>
  keepDraft(answerName(chatId, call), text);

type AskedCall = Pick<ActionCall, "call_id" | "digest" | "chat_id">;
const answerName = (chatId: string, { chat_id: agentId = "", call_id, digest }: AskedCall) =>
  `answer.${chatId}.${agentId}.${call_id}.${digest}`;

/**
 * The chat is at rest, so nothing of its own is asked there: somebody answered, or it was stopped, or too late. Its agents
 * go on, and may ask all the same.
 */
export function forgetAnswers(chatId: string): void {
  forgetKept(`${PREFIX}answer.${chatId}..`);
}

/**
 * The key to send a draft with: the same for the same request until it is done, so that it is done once. What is written in
 * an empty field is another message, whatever its words: the one before may have arrived although no answer came. It is kept
 * with the draft, as whoever got no answer may load the page anew, and send again.
 */
export function attemptKey(draft: string, request: unknown): string {
  const body = JSON.stringify(request);
  const last = lastAttempt(draft);
  if (last.body === body && typeof last.key === "string") return last.key;
  const key = randomKey();
  keepDraft(`attempt.${draft}`, JSON.stringify({ body, key }));
  return key;
}

function lastAttempt(draft: string): Record<string, unknown> {
  try {
    return { ...JSON.parse(keptDraft(`attempt.${draft}`) || "{}") };
  } catch {
    return {};
  }
}

/** The draft was taken: the same words again are another message. */
export function attemptDone(draft: string): void {
  keepDraft(`attempt.${draft}`, "");
}

/** The chat is gone. */
export function forgetDraftsOf(chatId: string): void {
  for (const name of [chatId, `attempt.${chatId}`, `files.${chatId}`]) keepDraft(name, "");
  for (const kind of ["edit", "answer"]) forgetKept(`${PREFIX}${kind}.${chatId}.`);
}

/** Whoever signs in next at this browser sees nothing of them. */
export function forgetDrafts(): void {
  forgetKept(PREFIX);
}
