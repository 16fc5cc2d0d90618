import { keepPreviousData, useQuery } from "@tanstack/react-query";
import type { Schemas } from "../client/index.ts";
import { api } from "../server.ts";
import { Pick, SPANS, type Usage, UsageTable, usageQuery } from "../UsageTable.tsx";
import { Limits } from "./Limits.tsx";
import { Panel } from "./Panel.tsx";
import { useFilters } from "./useFilters.ts";

const GROUPS = { user: "by user", day: "by day", model: "by model", chat: "by chat" } as const;
const HEADINGS: Record<string, string> = { user: "User", day: "Day", model: "Model", chat: "Chat" };

type User = Schemas["UserRow"];
const USERS_MAX = 200;

/** What the chats of all users cost, and how much they may. */
export function UsageOfAll() {
  const [filters, change] = useFilters(["days", "by", "user"]);
  const days = Object.hasOwn(SPANS, filters.days) ? filters.days : "30";
  const by = Object.hasOwn(GROUPS, filters.by) ? filters.by : "user";
  const query = useQuery({
    queryKey: ["usage-of-all", days, by, filters.user],
    queryFn: ({ signal }) =>
      api.get<Usage>("/admin/usage", { ...usageQuery(days, by), user: filters.user || undefined }, signal),
    placeholderData: keepPreviousData,
    staleTime: 0,
  });
  const users = useQuery({
    queryKey: ["users-to-choose"],
    queryFn: async () => (await api.get<{ users: User[] }>("/admin/users", { limit: USERS_MAX })).users,
  });
  const everybody = { "": "of all users" };
  const names = Object.fromEntries(users.data?.map(({ user_id, name }) => [user_id, `of ${name}`]) ?? []);
  const choices = (
    <>
      <Pick label="Time" value={days} options={SPANS} onChange={(value) => change("days", value)} />
      <Pick label="Grouped" value={by} options={GROUPS} onChange={(value) => change("by", value)} />
      <Pick
        label="User"
        value={filters.user}
        options={{ ...everybody, ...names }}
        onChange={(value) => change("user", value)}
      />
    </>
  );
  return (
    <div className="flex flex-col gap-8">
      <section>
        <Panel title="Usage" what="usage" query={query} actions={choices} freshMs={60_000}>
          {(usage) => (
            <UsageTable
              usage={usage}
              heading={HEADINGS[usage.group_by] ?? "Group"}
              nameOf={({ key, name }) => name || key || "not known"}
            />
          )}
        </Panel>
      </section>
      <Limits />
    </div>
  );
}
