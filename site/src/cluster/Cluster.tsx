import { useEffect, useRef } from "react";
import { Link } from "wouter";
import { useListAlone } from "../chat/useOpenChat.ts";
import { useSession } from "../session.ts";
import { Empty } from "../ui/Notice.tsx";
import { useTitle } from "../ui/title.ts";
import { Audit } from "./Audit.tsx";
import { Charts } from "./Charts.tsx";
import { Chats } from "./Chats.tsx";
import { McpServers } from "./McpServers.tsx";
import { Models } from "./Models.tsx";
import { Replicas } from "./Replicas.tsx";
import { TakeoverLog } from "./Takeovers.tsx";
import { Tokens } from "./Tokens.tsx";
import { UsageOfAll } from "./UsageOfAll.tsx";
import { Users } from "./Users.tsx";

const PAGES = {
  replicas: { title: "Replicas", Page: Replicas },
  charts: { title: "Charts", Page: Charts },
  chats: { title: "Chats", Page: Chats },
  takeovers: { title: "Takeovers", Page: TakeoverLog },
  models: { title: "Models", Page: Models },
  tools: { title: "Tools", Page: McpServers },
  usage: { title: "Usage", Page: UsageOfAll },
  users: { title: "Users", Page: Users },
  tokens: { title: "Tokens", Page: Tokens },
  audit: { title: "Audit", Page: Audit },
} as const;

/** What an operator sees of the cluster. */
export default function Cluster({ page }: { page: string }) {
  useListAlone();
  const { data: session } = useSession();
  const shown = Object.hasOwn(PAGES, page) ? PAGES[page as keyof typeof PAGES] : null;
  useTitle(shown?.title ?? "Cluster");
  const here = useRef<HTMLAnchorElement>(null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: on a narrow screen the page that one is on may be out of sight
  useEffect(() => {
    here.current?.scrollIntoView({ block: "nearest", inline: "center" }); // which may answer a promise
  }, [page]);
  if (!session?.admin) return <Closed />;
  return (
    <main id="main" className="min-h-0 flex-1 overflow-y-auto print:overflow-visible">
      <nav
        aria-label="Cluster"
        className="sticky top-0 z-10 flex gap-1 overflow-x-auto border-b border-line bg-page px-3 sm:px-5"
      >
        {Object.entries(PAGES).map(([name, { title }]) => (
          <Link
            key={name}
            ref={name === page ? here : null}
            href={`/cluster/${name}`}
            aria-current={name === page ? "page" : undefined}
            className="-mb-px border-b-2 border-transparent px-2 py-2.5 text-sm text-soft hover:text-ink aria-[current]:border-accent aria-[current]:font-semibold aria-[current]:text-ink"
          >
            {title}
          </Link>
        ))}
      </nav>
      <div className="mx-auto w-full max-w-6xl px-3 py-4 sm:px-5">{shown ? <shown.Page /> : <Nowhere />}</div>
    </main>
  );
}

function Nowhere() {
  return (
    <>
      <h1 className="sr-only">Not found</h1>
      <Empty title="There is nothing at this address">Choose a page from those above.</Empty>
    </>
  );
}

function Closed() {
  return (
    <main id="main" className="min-h-0 flex-1">
      <h1 className="sr-only">Cluster</h1>
      <Empty title="This is for administrators">Sign in with a token of an administrator to see the cluster.</Empty>
    </main>
  );
}
