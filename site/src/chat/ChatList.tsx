import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { Archive, CircleAlert, CircleHelp, EllipsisVertical, LoaderCircle, Pin, Search } from "lucide-react";
import { memo, useDeferredValue, useState, useSyncExternalStore } from "react";
import { Link, useRoute } from "wouter";
import type { Chat } from "../client/index.ts";
import { api, type ChatFilter, type ChatPage, upToDate } from "../server.ts";
import { Button, IconButton } from "../ui/Button.tsx";
import { isComposing } from "../ui/keys.ts";
import { later } from "../ui/later.tsx";
import { Empty, Loading, Notice } from "../ui/Notice.tsx";
import { sayError } from "../ui/Toast.tsx";
import { isUnread, seen } from "./seen.ts";

const ChatMenu = later(async () => (await import("./ChatMenu.tsx")).ChatMenu);

const PAGE_CHATS = 50;

/** Pages of a list, newest chat first. The tab's stream keeps what was read up to date. */
function useChats(filter: ChatFilter, enabled = true) {
  return useInfiniteQuery({
    queryKey: ["chats", filter],
    queryFn: ({ pageParam, signal }) =>
      api.get<ChatPage>("/chats", { ...filter, limit: PAGE_CHATS, after: pageParam }, signal),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => (page.has_more ? (page.chats.at(-1)?.id ?? null) : null),
    placeholderData: keepPreviousData,
    structuralSharing: upToDate,
    enabled,
  });
}

export function ChatList() {
  const [text, setText] = useState("");
  const [archived, setArchived] = useState(false);
  const q = useDeferredValue(text.trim());
  const isPlain = !q && !archived;
  const chats = useChats({ q, archived });
  const pins = useChats({ pinned: true }, isPlain);
  const pinned = isPlain ? (pins.data?.pages.flatMap((page) => page.chats) ?? []).filter((chat) => chat.pinned) : [];
  const all = chats.data?.pages.flatMap((page) => page.chats) ?? [];
  const shown = all.filter((chat) => chat.archived === archived && !(isPlain && chat.pinned));
  return (
    <>
      <div className="flex items-center gap-1 px-3 pb-2">
        <div className="relative min-w-0 flex-1">
          <Search size={15} aria-hidden className="absolute left-2.5 top-2 text-soft" />
          <input
            id="search"
            type="search"
            aria-label="Search chats by title"
            placeholder="Search"
            value={text}
            maxLength={200}
            onChange={(event) => setText(event.target.value)}
            onKeyDown={(event) => {
              if (event.key !== "Escape" || !text || isComposing(event.nativeEvent)) return;
              event.stopPropagation();
              setText("");
            }}
            className="h-8 w-full rounded-lg border border-field bg-page pl-8 pr-2 text-sm"
          />
        </div>
        <IconButton
          label="Archived chats"
          aria-pressed={archived}
          className={archived ? "bg-tint text-accent" : ""}
          onClick={() => setArchived(!archived)}
        >
          <Archive size={17} aria-hidden />
        </IconButton>
      </div>
      {archived && <p className="px-4 pb-1 text-xs font-semibold text-soft">Archived</p>}
      <div className="min-h-0 flex-1 overflow-y-auto px-2 pb-2">
        {pinned.length > 0 && <Items label="Pinned chats" chats={pinned} />}
        {chats.isPending && <Loading what="chats" />}
        {chats.isError && (
          <Notice tone="bad" role="alert" action={<Button onClick={() => void chats.refetch()}>Try again</Button>}>
            The list cannot be read: {chats.error.message}
          </Notice>
        )}
        {chats.isSuccess && shown.length + pinned.length === 0 && <Nothing q={q} archived={archived} />}
        {shown.length > 0 && <Items label={archived ? "Archived chats" : "Chats"} chats={shown} />}
        {chats.hasNextPage && (
          <Button
            className="mt-2 w-full"
            disabled={chats.isFetchingNextPage}
            onClick={() => void chats.fetchNextPage()}
          >
            {chats.isFetchingNextPage ? "Loading …" : "More chats"}
          </Button>
        )}
      </div>
    </>
  );
}

function Nothing({ q, archived }: { q: string; archived: boolean }) {
  if (q) {
    return (
      <Empty title="No chat found">
        No title contains “<span className="foreign">{q}</span>”.
      </Empty>
    );
  }
  if (archived) return <Empty title="Nothing is archived" />;
  return <Empty title="No chats yet">Write a message to begin the first one.</Empty>;
}

function Items({ label, chats }: { label: string; chats: readonly Chat[] }) {
  const known = useSyncExternalStore(seen().subscribe, seen().get);
  const [isOpen, params] = useRoute("/chats/:id");
  return (
    <ul aria-label={label} className="flex flex-col gap-px">
      {chats.map((chat) => {
        const isCurrent = isOpen && params.id === chat.id;
        return <Item key={chat.id} chat={chat} isCurrent={isCurrent} isUnread={!isCurrent && isUnread(chat, known)} />;
      })}
    </ul>
  );
}

type ItemProps = { chat: Chat; isCurrent: boolean; isUnread: boolean };

const Item = memo(function Item({ chat, isCurrent, isUnread: unread }: ItemProps) {
  return (
    <li className={`group flex items-center rounded-lg ${isCurrent ? "bg-pressed" : "hover:bg-raised"}`}>
      <Link
        href={`/chats/${chat.id}`}
        aria-current={isCurrent ? "page" : undefined}
        className={`flex min-h-9 min-w-0 flex-1 items-center gap-2 rounded-lg pl-2.5 text-sm ${unread ? "font-semibold" : ""}`}
      >
        <span dir="auto" className="foreign min-w-0 flex-1 truncate text-left" title={chat.title}>
          {chat.title || "Untitled"}
        </span>
        {chat.pinned && <Pin size={13} role="img" aria-label="pinned" className="shrink-0 text-soft" />}
        {unread && <span role="img" aria-label="unread" className="dot size-2 shrink-0 rounded-full bg-accent" />}
        <StatusIcon chat={chat} />
      </Link>
      <ItemMenu chat={chat} />
    </li>
  );
});

const UNTIL_WANTED =
  "opacity-0 focus-visible:opacity-100 group-focus-within:opacity-100 group-hover:opacity-100 data-[popup-open]:opacity-100 pointer-coarse:opacity-100";

/** All that a menu takes to lie over the page is there for those chats alone whose menu was asked for. */
function ItemMenu({ chat }: { chat: Chat }) {
  const [isAsked, setAsked] = useState(false);
  const label = `Menu of ${chat.title}`;
  const closed = (
    <IconButton
      label={label}
      aria-haspopup="menu"
      aria-expanded={false}
      className={UNTIL_WANTED}
      onPointerEnter={() => void ChatMenu.load()}
      onFocus={() => void ChatMenu.load()}
      onClick={() => setAsked(true)}
      onKeyDown={(event) => event.key === "ArrowDown" && setAsked(true)}
    >
      <EllipsisVertical size={18} aria-hidden />
    </IconButton>
  );
  if (!isAsked) return closed;
  const fail = (error: unknown) => {
    sayError("Opening the menu", error);
    setAsked(false);
  };
  return <ChatMenu chat={chat} className={UNTIL_WANTED} opensAtOnce meanwhile={closed} onFailed={fail} />;
}

function StatusIcon({ chat }: { chat: Chat }) {
  const size = 15;
  switch (chat.status) {
    case "pending":
    case "running":
    case "interrupting":
      return <LoaderCircle size={size} role="img" aria-label="answering" className="turning shrink-0 text-accent" />;
    case "error":
      return <CircleAlert size={size} role="img" aria-label="failed" className="shrink-0 text-bad" />;
    case "requires_action":
      return <CircleHelp size={size} role="img" aria-label="waits for you" className="shrink-0 text-warn" />;
    default:
      return null;
  }
}
