import { useQuery } from "@tanstack/react-query";
import { Bot, Info } from "lucide-react";
import { type ReactNode, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { Link } from "wouter";
import { readChat } from "../ahead.ts";
import {
  ApiError,
  type Chat,
  type Content,
  contentOf,
  filesIn,
  isAtRest,
  type OpenChat,
  type Message as Said,
  textOf,
} from "../client/index.ts";
import { takeChat } from "../server.ts";
import { Button, buttonClass, IconButton } from "../ui/Button.tsx";
import { Empty, Loading, Notice } from "../ui/Notice.tsx";
import { laterLayer, laterPart } from "../ui/parts.tsx";
import { sayError } from "../ui/Toast.tsx";
import { useTitle } from "../ui/title.ts";
import { useWorkspaceFound } from "../workspace/found.ts";
import { isLimit, patchChat } from "./actions.ts";
import { ChatMenu } from "./ChatMenu.tsx";
import { Composer, focusComposer } from "./Composer.tsx";
import { attemptDone, attemptKey, forgetAnswers } from "./drafts.ts";
import { History } from "./History.tsx";
import { Queue } from "./Queue.tsx";
import { useSeen } from "./seen.ts";
import { type Quiet, useConnection, useListAlone, useOpenChat } from "./useOpenChat.ts";

const Details = laterLayer(async () => (await import("./Details.tsx")).default);
const WorkspaceCard = laterPart("the workspace", async () => (await import("../workspace/WorkspaceCard.tsx")).default);
const Limit = laterPart("the limit", async () => (await import("./Limit.tsx")).default);

/** One chat: its history, the answer under way, what waits, and where one writes. */
export function Conversation({ id }: { id: string }) {
  const { chat, view, page } = useOpenChat(id);
  const facts = useQuery({ queryKey: ["chat", id], queryFn: () => readChat(id) });
  const known = facts.data && withView(facts.data, view);
  useTitle(known?.title);
  useWorkspaceFound(id, view.messages);
  useSeen(facts.data, view.ready);
  const isOver = view.ready && isAtRest(view);
  useEffect(() => {
    if (isOver) forgetAnswers(id);
  }, [isOver, id]);
  const problem = page.error ?? facts.error;
  const wasDeleted = useDeleted();
  if (wasDeleted || isGone(problem)) return <Gone />;
  if (problem && !page.data) return <Failed error={problem} onRetry={() => void page.refetch()} />;
  return (
    <main id="main" className="flex min-h-0 flex-1 flex-col print:block">
      <Header chat={known} view={view} />
      <ConnectionNotice />
      {known?.workspace && (
        <div className="border-b border-line py-2">
          <div className={COLUMN}>
            <WorkspaceCard chat={chat} id={known.workspace.id} />
          </div>
        </div>
      )}
      {page.isPending ? <Loading what="the chat" /> : <Opened chat={chat} view={view} known={known} />}
    </main>
  );
}

const COLUMN = "mx-auto w-full max-w-3xl px-3 sm:px-5";

/** What the stream says of the chat is as new as it gets. An agent is in no list, so its title comes by the stream too. */
function withView(chat: Chat, view: Quiet): Chat {
  const title = chat.parent_id && view.title ? view.title : chat.title;
  return view.status ? { ...chat, title, status: view.status, archived: view.archived } : chat;
}

const BUSY = new Set(["pending", "running", "interrupting", "requires_action"]);

type OpenedProps = { chat: OpenChat; view: Quiet; known: Chat | undefined };

function Opened({ chat, view, known }: OpenedProps) {
  const [editing, setEditing] = useState<number | null>(null);
  const edit = useCallback((message: number | null) => {
    setEditing(message);
    if (message === null) focusComposer();
  }, []);
  const [limit, setLimit] = useState<ApiError | null>(null);
  const lastAsked = useMemo(() => view.messages.findLast(({ role }) => role === "user"), [view.messages]);
  const archived = view.status ? view.archived : (known?.archived ?? false);
  const attempt = (doing: string, deed: Promise<unknown>) => void deed.catch((error) => sayError(doing, error));
  const send = async (content: Content, how: "queue" | "interrupt") => {
    try {
      const key = attemptKey(chat.id, { content, how });
      takeChat((await chat.send(content, how, undefined, key)).chat);
      attemptDone(chat.id);
      setLimit(null);
    } catch (error) {
      if (isLimit(error)) setLimit(error);
      else sayError("Send", error);
      throw error;
    }
  };
  const tryAgain = ({ id, parts }: Said) =>
    attempt("Try again", chat.edit(id, contentOf(textOf(parts), filesIn(parts))));
  return (
    <>
      <History chat={chat} view={view} canEdit={!archived} editing={editing} onEdit={edit} onTryAgain={tryAgain} />
      <div className={`${COLUMN} pb-3 print:hidden`}>
        <Queue chat={chat} queue={view.queue} />
        {limit && <Limit error={limit} />}
        {archived && known ? (
          <Notice
            tone="info"
            action={<Button onClick={() => void patchChat(known, { archived: false }, "Unarchive")}>Unarchive</Button>}
          >
            This chat is archived. Take it out of the archive to go on with it.
          </Notice>
        ) : (
          <Composer
            draftKey={chat.id}
            isBusy={BUSY.has(view.status)}
            isStopping={view.status === "interrupting"}
            placeholder="Write a message"
            onSend={send}
            onStop={() => attempt("Stop", chat.interrupt())}
            {...(lastAsked ? { onEditLast: () => edit(lastAsked.id) } : {})}
          />
        )}
      </div>
    </>
  );
}

function Header({ chat, view }: { chat: Chat | undefined; view: Quiet }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <header className="flex items-center gap-1 border-b border-line px-3 py-1.5 sm:px-5">
      {chat?.parent_id && (
        <Link
          href={`/chats/${chat.parent_id}`}
          className={buttonClass("plain", "!px-2")}
          title="To the chat it works for"
        >
          <Bot size={16} aria-hidden />
          Agent of
        </Link>
      )}
      <h1 dir="auto" className="foreign min-w-0 flex-1 truncate text-left font-semibold" title={chat?.title}>
        {chat ? chat.title || "Untitled" : "…"}
      </h1>
      {chat && (
        <>
          <IconButton label="Details: replica, attempts, tokens" onClick={() => setOpen(true)}>
            <Info size={18} aria-hidden />
          </IconButton>
          <ChatMenu chat={chat} />
        </>
      )}
      {chat && isOpen && <Details chat={chat} view={view} onClose={() => setOpen(false)} />}
    </header>
  );
}

const PATIENCE_MS = 1000;

/** A connection that is away for longer than a moment is told; what is shown stays. */
function ConnectionNotice(): ReactNode {
  const { state, error } = useConnection();
  const [isLong, setLong] = useState(false);
  useEffect(() => {
    setLong(false);
    if (state !== "reconnecting") return;
    const waiting = setTimeout(() => setLong(true), PATIENCE_MS);
    return () => clearTimeout(waiting);
  }, [state]);
  const place = `${COLUMN} pt-2`;
  if (state === "refused" && error && !isGone(error) && error.status !== 401) {
    return (
      <div className={place}>
        <Notice tone="bad" role="alert" action={<Button onClick={() => location.reload()}>Reload</Button>}>
          Live updates ended: {error.message}
        </Notice>
      </div>
    );
  }
  if (!isLong) return null;
  return (
    <div className={place}>
      <Notice tone="busy" role="status">
        {lostWords(error)} Reconnecting …
      </Notice>
    </div>
  );
}

/** Why there is no connection, as far as anybody says. */
function lostWords(error: ApiError | null): string {
  if (!navigator.onLine) return "This device is offline.";
  return error?.status ? `The connection is lost: ${error.message.replace(/\.$/, "")}.` : "The connection is lost.";
}

/** Whether the chat was deleted while it was open: then its stream ends, and there is nothing to come back to. */
function useDeleted(): boolean {
  const { state, error } = useConnection();
  const [isDeleted, setDeleted] = useState(false);
  const before = useRef(state); // at first it is that of whatever was open before
  useEffect(() => {
    if (before.current !== state && state === "refused" && isGone(error)) setDeleted(true);
    before.current = state;
  }, [state, error]);
  return isDeleted;
}

function isGone(error: unknown): boolean {
  return error instanceof ApiError && (error.status === 404 || error.code === "invalid_request");
}

function Gone() {
  useListAlone();
  return (
    <main id="main" className="min-h-0 flex-1">
      <h1 className="sr-only">Chat not found</h1>
      <Empty title="There is no such chat">It was deleted, or it is somebody else's.</Empty>
    </main>
  );
}

function Failed({ error, onRetry }: { error: Error; onRetry: () => void }) {
  useListAlone();
  return (
    <main id="main" className="mx-auto w-full max-w-3xl flex-1 p-5">
      <h1 className="sr-only">Chat</h1>
      <Notice tone="bad" role="alert" action={<Button onClick={onRetry}>Try again</Button>}>
        The chat cannot be read: {error.message}
      </Notice>
    </main>
  );
}
