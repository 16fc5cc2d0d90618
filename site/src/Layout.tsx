import { Menu as MenuIcon, PanelLeftClose, Server, Settings, SquarePen } from "lucide-react";
import { type ReactNode, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { flushSync } from "react-dom";
import { Link, useLocation } from "wouter";
import { ChatList } from "./chat/ChatList.tsx";
import type { Session } from "./session.ts";
import { buttonClass, IconButton } from "./ui/Button.tsx";
import { type Shortcut, shown, useShortcuts } from "./ui/keys.ts";
import { laterLayer } from "./ui/parts.tsx";

const Help = laterLayer(async () => (await import("./Help.tsx")).default);
const Preferences = laterLayer(async () => (await import("./Preferences.tsx")).default);

type LayoutProps = { session: Session; children: ReactNode };

/**
 * The list at the side and the page beside it. On a narrow screen the list lies over the page, which is out of reach as
 * long; the focus goes there, and comes back.
 */
export function Layout({ session, children }: LayoutProps) {
  const [location, navigate] = useLocation();
  const isNarrow = useMedia("(max-width: 47.99rem)");
  const [isOpen, setOpen] = useState(false);
  const [layer, setLayer] = useState<"help" | "preferences" | null>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another page closes the list that lies over it
  useEffect(() => setOpen(false), [location]);
  const lies = isNarrow && isOpen;
  const opener = useRef<HTMLButtonElement>(null);
  const closer = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (lies) closer.current?.focus();
  }, [lies]);
  // The focus is there at once: on a busy machine the next key may come before the next frame.
  const close = () => {
    flushSync(() => setOpen(false));
    opener.current?.focus();
  };
  const search = () => {
    flushSync(() => setOpen(true));
    document.getElementById("search")?.focus();
  };
  // One goes on with a message: the field for it takes the focus when it comes, if that is in no other field then.
  const begin = () => {
    flushSync(() => setOpen(false));
    if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
    document.getElementById("composer")?.focus();
    navigate("/");
  };
  const shortcuts: Shortcut[] = [
    { keys: "Mod+K", what: "Search chats", run: search },
    { keys: "Mod+Shift+O", what: "New chat", run: begin },
    { keys: "Mod+/", what: "This help", run: () => setLayer("help") },
    { keys: "?", what: "This help", run: () => setLayer("help") },
    { keys: "g c", what: "Go to chats", run: () => navigate("/") },
    ...(session.admin ? [{ keys: "g w", what: "Go to the cluster", run: () => navigate("/cluster/replicas") }] : []),
    { keys: "Escape", what: "Close the list", run: close },
  ].filter(({ keys }) => keys !== "Escape" || lies);
  useShortcuts(shortcuts);
  const isListShown = !isNarrow || isOpen;
  return (
    <div className="flex h-full print:block print:h-auto">
      <a href="#main" className={buttonClass("main", "absolute left-2 top-2 z-50 -translate-y-16 focus:translate-y-0")}>
        Skip to the page
      </a>
      {lies && <div className="fixed inset-0 z-20 bg-shade" onClick={close} aria-hidden />}
      {isListShown && (
        // biome-ignore lint/a11y: the links are what is pressed; one that leads to this very page closes the list as well
        <nav
          aria-label="Chats and pages"
          onClick={({ target }) => (target as Element).closest("a") && setOpen(false)}
          className="z-20 flex h-full w-[min(18rem,88vw)] shrink-0 flex-col border-r border-line bg-side max-md:fixed max-md:inset-y-0 max-md:left-0 max-md:shadow-2xl"
        >
          <div className="flex items-center gap-2 p-3 pb-2">
            <img src="/icon.svg" alt="" width={24} height={24} />
            <span className="flex-1 font-semibold">chatcluster</span>
            {isNarrow && (
              <IconButton ref={closer} label="Close the list" onClick={close}>
                <PanelLeftClose size={18} aria-hidden />
              </IconButton>
            )}
          </div>
          <div className="px-3 pb-2">
            <Link href="/" title={shown("Mod+Shift+O")} className={buttonClass("main", "w-full")}>
              <SquarePen size={16} aria-hidden />
              New chat
            </Link>
          </div>
          <ChatList />
          <div className="flex items-center gap-1 border-t border-line p-2">
            {session.admin && (
              <Link href="/cluster/replicas" className={buttonClass("plain", "!px-2")}>
                <Server size={16} aria-hidden />
                Cluster
              </Link>
            )}
            <span className="foreign min-w-0 flex-1 truncate text-right text-sm text-soft">{session.name}</span>
            <IconButton label="Preferences" onClick={() => setLayer("preferences")}>
              <Settings size={18} aria-hidden />
            </IconButton>
          </div>
        </nav>
      )}
      <div className="flex min-w-0 flex-1 flex-col print:block" inert={lies}>
        {isNarrow && (
          <header className="flex items-center border-b border-line px-2 py-1 print:hidden">
            <IconButton
              ref={opener}
              label="Open the list of chats"
              aria-expanded={isOpen}
              onClick={() => setOpen(true)}
            >
              <MenuIcon size={18} aria-hidden />
            </IconButton>
            <span className="flex-1" />
            <Link href="/" aria-label="New chat" className={buttonClass("plain", "size-8 !px-0")}>
              <SquarePen size={18} aria-hidden />
            </Link>
          </header>
        )}
        {children}
      </div>
      {layer === "help" && <Help shortcuts={shortcuts} onClose={() => setLayer(null)} />}
      {layer === "preferences" && (
        <Preferences session={session} onHelp={() => setLayer("help")} onClose={() => setLayer(null)} />
      )}
    </div>
  );
}

function useMedia(query: string): boolean {
  return useSyncExternalStore(
    (listener) => {
      const media = matchMedia(query);
      media.addEventListener("change", listener);
      return () => media.removeEventListener("change", listener);
    },
    () => matchMedia(query).matches,
  );
}
