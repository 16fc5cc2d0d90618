import { ArrowDown } from "lucide-react";
import {
  type KeyboardEvent,
  memo,
  type RefObject,
  startTransition,
  useEffect,
  useLayoutEffect,
  useRef,
  useState,
  useSyncExternalStore,
} from "react";
import { useStickToBottom } from "use-stick-to-bottom";
import { type ChatView, type OpenChat, type Message as Said, textOf } from "../client/index.ts";
import { Button } from "../ui/Button.tsx";
import { laterPart } from "../ui/parts.tsx";
import { sayError } from "../ui/Toast.tsx";
import { Callouts } from "./Callouts.tsx";
import { keptEdit } from "./drafts.ts";
import { Family, Source } from "./family.ts";
import { Editor, Message, Notices, Parts } from "./Message.tsx";
import { type Results, useResults } from "./results.ts";
import { type Quiet, useSelected } from "./useOpenChat.ts";

const Approval = laterPart("what is asked", async () => (await import("./Approval.tsx")).default);

type HistoryProps = {
  chat: OpenChat;
  view: Quiet;
  canEdit: boolean;
  editing: number | null;
  onEdit: (id: number | null) => void;
  onTryAgain: (message: Said) => void;
};

/** The messages and the answer under way. It scrolls by itself only where one is at the end. */
export function History({ chat, view, canEdit, editing, onEdit, onTryAgain }: HistoryProps) {
  const { scrollRef, contentRef, isAtBottom, scrollToBottom } = useStickToBottom({
    initial: "instant",
    resize: "instant",
  });
  const answered = useSelected(chat.view, resultsUnderWay, haveSameItems);
  const results = useResults({ messages: view.messages, preview: answered });
  const hasMessages = view.messages.length > 0;
  const isWhole = useWhole(hasMessages);
  useBeginAtEnd(scrollRef, hasMessages);
  useStayAtEnd(scrollRef, isAtBottom);
  const tellsNew = useTellsNew(shownOf(view.messages, isWhole)[0]?.id);
  // The message may be gone, as somebody edited one before it: what was written in its place stays to be taken elsewhere.
  const isGone = editing !== null && view.ready && !view.messages.some(({ id }) => id === editing);
  const left = isGone ? keptEdit(chat.id, editing) : "";
  const isLeft = left !== "" && !view.messages.some(({ parts }) => textOf(parts) === left); // it may be what was sent
  const isActive = view.status === "running" || view.status === "requires_action" || view.status === "pending";
  return (
    // Where there is next to no room, as with a zoom of 400 %, the whole page scrolls rather than that nothing is left of it.
    <div className="relative min-h-[min(8rem,70dvh)] flex-1">
      <div ref={scrollRef} className="h-full overflow-y-auto print:h-auto print:overflow-visible">
        <div
          ref={contentRef}
          role="log"
          aria-label="Messages"
          aria-live={tellsNew ? "polite" : "off"}
          aria-relevant="additions"
          onKeyDown={moveFocus}
          className="mx-auto flex w-full max-w-3xl flex-col gap-2 px-3 py-5 sm:px-5"
        >
          {view.isTruncated && isWhole && <Earlier chat={chat} view={view} scroller={scrollRef} />}
          <Family value={chat}>
            <Source value={chat.view}>
              <Messages
                messages={view.messages}
                isWhole={isWhole}
                chat={chat}
                results={results}
                asked={view.asked}
                isActive={isActive}
                canEdit={canEdit}
                editing={editing}
                onEdit={onEdit}
              />
              {editing !== null && isLeft && (
                <Editor key={editing} chat={chat} id={editing} text="" files={[]} onClose={() => onEdit(null)} />
              )}
              <UnderWay chat={chat} results={results} onTryAgain={onTryAgain} />
            </Source>
          </Family>
        </div>
      </div>
      {!isAtBottom && (
        <Button
          className="absolute bottom-3 left-1/2 -translate-x-1/2 !border-line shadow-md"
          onClick={() => void scrollToBottom()}
        >
          <ArrowDown size={15} aria-hidden />
          Latest
        </Button>
      )}
      <TurnEnd chat={chat} view={view} />
    </div>
  );
}

type UnderWayProps = Pick<HistoryProps, "chat" | "onTryAgain"> & { results: Results };

/** The answer under way, and how its turn goes: all of the page that changes with each word. */
function UnderWay({ chat, results, onTryAgain }: UnderWayProps) {
  const view = useSyncExternalStore(chat.view.subscribe, chat.view.get);
  return (
    <>
      {view.preview.length > 0 && (
        <div aria-busy aria-live="off" data-preview>
          <Parts parts={view.preview} results={results} asked={view.asked} isActive isStreaming />
        </div>
      )}
      <Notices notices={view.notices} />
      {view.asked.length > 0 && <Approval chat={chat} asked={view.asked} />}
      <Callouts view={view} onTryAgain={onTryAgain} />
    </>
  );
}

const resultsUnderWay = ({ preview }: ChatView) => preview.filter(({ type }) => type === "tool_result");

const haveSameItems = <T,>(one: readonly T[], other: readonly T[]) =>
  one.length === other.length && one.every((item, at) => item === other[at]);

/** Whether more than what one sees first is shown: the rest of a page follows piece by piece, and holds nothing up. */
function useWhole(hasMessages: boolean): boolean {
  const [isWhole, setWhole] = useState(false);
  useEffect(() => {
    if (hasMessages) startTransition(() => setWhole(true));
  }, [hasMessages]);
  return isWhole;
}

const SETTLED_MS = 1000;

/** Whether what is added now is new, for those who listen: not while earlier messages come, or all of them come anew. */
function useTellsNew(first: number | undefined): boolean {
  const [settled, settle] = useState<number>();
  useEffect(() => {
    const waiting = setTimeout(() => settle(first), SETTLED_MS);
    return () => clearTimeout(waiting);
  }, [first]);
  return settled === first;
}

/** One begins at the end, before anything is painted: at its beginning a chat would read on what is before. */
function useBeginAtEnd(scroller: RefObject<HTMLElement | null>, hasMessages: boolean): void {
  useLayoutEffect(() => {
    if (hasMessages && scroller.current) scroller.current.scrollTop = scroller.current.scrollHeight;
  }, [scroller, hasMessages]);
}

/** Whoever is at the end stays there when the place for messages becomes smaller. */
function useStayAtEnd(scroller: RefObject<HTMLElement | null>, isAtEnd: boolean): void {
  const latest = useRef(isAtEnd);
  latest.current = isAtEnd;
  useEffect(() => {
    const box = scroller.current;
    if (!box) return;
    const seen = new ResizeObserver(() => {
      if (latest.current) box.scrollTop = box.scrollHeight;
    });
    seen.observe(box);
    return () => seen.disconnect();
  }, [scroller]);
}

type MessagesProps = Pick<HistoryProps, "chat" | "canEdit" | "editing" | "onEdit"> &
  Pick<ChatView, "messages" | "asked"> & { results: Results; isActive: boolean; isWhole: boolean };

const MESSAGES_FIRST = 10;

const shownOf = (messages: readonly Said[], isWhole: boolean): readonly Said[] =>
  isWhole ? messages : messages.slice(-MESSAGES_FIRST);

/** The messages, apart from the answer under way: a thousand of them are not looked at again with each of its words. */
const Messages = memo(function Messages({ messages, isWhole, editing, isActive, ...shared }: MessagesProps) {
  const lastId = messages.findLast(({ role }) => role !== "tool")?.id;
  return shownOf(messages, isWhole).map((message) => (
    <Message
      key={message.id}
      message={message}
      isLast={message.id === lastId}
      isActive={isActive && message.id === lastId}
      isEditing={editing === message.id}
      {...shared}
    />
  ));
});

type EarlierProps = { chat: OpenChat; view: Quiet; scroller: RefObject<HTMLElement | null> };

/** Reads the page before when one comes near it; what one looks at stays where it is. */
function Earlier({ chat, view, scroller }: EarlierProps) {
  const button = useRef<HTMLButtonElement>(null);
  const fromEnd = useRef<number | null>(null);
  const first = view.messages[0]?.id;
  const load = () => {
    const box = scroller.current;
    fromEnd.current = box ? box.scrollHeight - box.scrollTop : null;
    chat.loadEarlier().catch((error) => sayError("Reading earlier messages", error));
  };
  // biome-ignore lint/correctness/useExhaustiveDependencies: when earlier messages have come
  useLayoutEffect(() => {
    const box = scroller.current;
    if (box && fromEnd.current !== null) box.scrollTop = box.scrollHeight - fromEnd.current;
    fromEnd.current = null;
  }, [first]);
  const latest = useRef(load);
  latest.current = load;
  // biome-ignore lint/correctness/useExhaustiveDependencies: it may be in sight still when a page had little to show
  useEffect(() => {
    const seen = new IntersectionObserver(([entry]) => entry?.isIntersecting && latest.current());
    if (button.current) seen.observe(button.current);
    return () => seen.disconnect();
  }, [first]);
  return (
    <button
      ref={button}
      type="button"
      onClick={load}
      className="mx-auto min-h-8 rounded-lg px-3 text-sm text-soft hover:bg-raised"
    >
      Earlier messages
    </button>
  );
}

/** Arrow keys, Home and End go from message to message. */
function moveFocus(event: KeyboardEvent<HTMLElement>): void {
  const from = event.target as HTMLElement;
  if (!from.matches("[data-message]")) return;
  const all = [...event.currentTarget.querySelectorAll<HTMLElement>("[data-message]")];
  const at = all.indexOf(from);
  const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined || !all[to]) return;
  event.preventDefault();
  all[to].focus();
}

const ENDS: Record<string, string> = {
  finished: "Answer complete",
  interrupted: "Answer stopped",
  error: "Answer failed",
};

const saysSomething = ({ preview }: ChatView) => preview.some((part) => part.type === "text" && part.text !== "");

/** One standing line for those who listen: that the answer is there. It says nothing of turns that ended before. */
function TurnEnd({ chat, view }: { chat: OpenChat; view: Quiet }) {
  const [words, setWords] = useState("");
  const wasReady = useRef(false);
  const { turn, ready } = view;
  const hasWords = useSelected(chat.view, saysSomething, Object.is);
  useEffect(() => {
    if (wasReady.current && turn) setWords(ENDS[turn.outcome] ?? "");
  }, [turn]);
  useEffect(() => {
    if (ready) wasReady.current = true;
    if (hasWords) setWords("");
  }, [ready, hasWords]);
  return (
    <div role="status" className="sr-only">
      {words}
    </div>
  );
}
