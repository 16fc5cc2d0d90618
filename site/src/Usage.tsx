import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { Link } from "wouter";
import { useListAlone } from "./chat/useOpenChat.ts";
import { Panel } from "./cluster/Panel.tsx";
import { useFilters } from "./cluster/useFilters.ts";
import { api } from "./server.ts";
import { Pick, SPANS, type Usage as Sums, UsageTable, usageQuery } from "./UsageTable.tsx";
import { useTitle } from "./ui/title.ts";

const GROUPS = { day: "by day", model: "by model", chat: "by chat" } as const;
const HEADINGS: Record<string, string> = { day: "Day", model: "Model", chat: "Chat" };

/** What the chats of the one who is signed in cost. */
export default function Usage() {
  useListAlone();
  const [filters, change] = useFilters(["days", "by"]);
  const days = Object.hasOwn(SPANS, filters.days) ? filters.days : "30";
  const by = Object.hasOwn(GROUPS, filters.by) ? filters.by : "day";
  const query = useQuery({
    queryKey: ["usage", days, by],
    queryFn: ({ signal }) => api.get<Sums>("/usage", usageQuery(days, by), signal),
    placeholderData: keepPreviousData,
    staleTime: 0,
  });
  useTitle("Usage");
  const choices = (
    <>
      <Pick label="Time" value={days} options={SPANS} onChange={(value) => change("days", value)} />
      <Pick label="Grouped" value={by} options={GROUPS} onChange={(value) => change("by", value)} />
    </>
  );
  return (
    <main id="main" className="min-h-0 flex-1 overflow-y-auto print:overflow-visible">
      <div className="mx-auto w-full max-w-5xl px-3 py-4 sm:px-5">
        <Panel title="Usage" what="usage" query={query} actions={choices} freshMs={60_000}>
          {(usage) => <UsageTable usage={usage} heading={HEADINGS[usage.group_by] ?? "Group"} nameOf={nameOf} />}
        </Panel>
        <p className="pt-4 text-sm text-soft">
          Costs are in the currency of the models' prices. Days are of UTC. Titles, summaries and sub-agents are in it,
          and so are chats that were deleted.
        </p>
      </div>
    </main>
  );

  function nameOf({ key, name }: Sums["groups"][number]) {
    if (by !== "chat") return key || "not known";
    if (!name) return "a chat that was deleted";
    return (
      <Link href={`/chats/${key}`} className="text-accent underline">
        {name}
      </Link>
    );
  }
}
