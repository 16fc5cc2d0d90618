import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Schemas } from "../client/index.ts";
import { api } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { INPUT } from "../ui/Field.tsx";
import { Empty } from "../ui/Notice.tsx";
import { Badge, type Column, Table } from "../ui/Table.tsx";
import { duration, Time } from "../ui/Time.tsx";
import { Panel, useRefresh } from "./Panel.tsx";
import { PAGE_ROWS, type Rows, readPages } from "./pages.ts";
import { useFilters } from "./useFilters.ts";

type Takeover = Schemas["Takeover"];
export type Takeovers = { takeovers: Takeover[]; has_more: boolean };

const EVERY_MS = 2000;

/** Each chat that changed hands: from which replica to which, why, and how long nobody had it. */
export function TakeoverLog() {
  const [filters, change] = useFilters(["cause"]);
  const [pages, setPages] = useState(1);
  const refresh = useRefresh(EVERY_MS);
  const query = useQuery({
    queryKey: ["takeovers", filters, pages],
    queryFn: ({ signal }) => read(filters, pages, signal),
    refetchInterval: refresh.everyMs,
    placeholderData: keepPreviousData,
  });
  return (
    <Panel title="Takeovers" what="takeovers" query={query} refresh={refresh}>
      {({ rows: takeovers, has_more }) => (
        <>
          <div className="flex flex-wrap items-center gap-x-6 gap-y-2 pb-3">
            <select
              aria-label="Cause"
              className={`${INPUT} sm:!w-44`}
              value={filters.cause}
              onChange={(event) => change("cause", event.target.value)}
            >
              <option value="">Any cause</option>
              <option value="takeover">Replica lost</option>
              <option value="drain">Drain</option>
            </select>
            <Gaps takeovers={takeovers} />
          </div>
          {takeovers.length ? (
            <TakeoverTable takeovers={takeovers} />
          ) : (
            <Empty title="No takeover in the last 7 days">Kill a replica, and see its chats go on elsewhere.</Empty>
          )}
          {has_more && (
            <Button className="mt-3" onClick={() => setPages(pages + 1)}>
              More takeovers
            </Button>
          )}
        </>
      )}
    </Panel>
  );
}

function read(filters: Record<string, string>, pages: number, signal: AbortSignal): Promise<Rows<Takeover>> {
  const page = (last: Takeover | undefined) =>
    api.get<Takeovers>("/admin/takeovers", { ...filters, limit: PAGE_ROWS, before: last?.id }, signal);
  return readPages(pages, page, ({ takeovers }) => takeovers);
}

function Gaps({ takeovers }: { takeovers: readonly Takeover[] }) {
  const gaps = takeovers.flatMap(({ gap_ms }) => (gap_ms == null ? [] : [gap_ms])).sort((one, other) => one - other);
  if (!gaps.length) return null;
  const at = (share: number) => gaps[Math.min(gaps.length - 1, Math.floor(share * gaps.length))] as number;
  return (
    <p className="text-sm text-soft">
      Without an owner, of the {gaps.length} shown: median {duration(at(0.5))}, 95 % {duration(at(0.95))}, longest{" "}
      {duration(at(1))}
    </p>
  );
}

type TakeoverTableProps = { takeovers: readonly Takeover[]; isOfOneChat?: boolean };

export function TakeoverTable({ takeovers, isOfOneChat = false }: TakeoverTableProps) {
  const columns = isOfOneChat ? COLUMNS.filter(({ name }) => name !== "Chat") : COLUMNS;
  return <Table label="Takeovers" columns={columns} rows={takeovers} rowKey={(row) => row.id} />;
}

const COLUMNS: Column<Takeover>[] = [
  { name: "When", cell: (row) => <Time at={row.freed_at} /> },
  { name: "Chat", cell: (row) => <span className="whitespace-nowrap font-mono text-xs">{row.chat_id}</span> },
  {
    name: "Cause",
    cell: (row) => (
      <Badge tone={row.cause === "drain" ? "plain" : "warn"}>
        {row.cause === "takeover" ? "replica lost" : row.cause}
      </Badge>
    ),
  },
  { name: "From", cell: (row) => <span className="foreign">{row.from_name ?? row.from_worker.slice(0, 8)}</span> },
  {
    name: "To",
    cell: (row) => <span className="foreign">{row.to_name ?? row.to_worker?.slice(0, 8) ?? "nobody yet"}</span>,
  },
  { name: "Gap", cell: (row) => (row.gap_ms == null ? "–" : duration(row.gap_ms)), isNumber: true },
];
