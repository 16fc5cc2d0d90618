import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useReplicaName } from "../chat/replicas.ts";
import type { Chat } from "../client/index.ts";
import { api } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { INPUT } from "../ui/Field.tsx";
import { Empty } from "../ui/Notice.tsx";
import { Badge, type Column, Table } from "../ui/Table.tsx";
import { Time } from "../ui/Time.tsx";
import { Panel, useRefresh } from "./Panel.tsx";
import { type Rows, readPages } from "./pages.ts";
import { useFilters } from "./useFilters.ts";

type OwnedChat = { chat: Chat; owner_id: string; user: string | null };
type Answer = { chats: OwnedChat[]; has_more: boolean };

const EVERY_MS = 3000;
const PAGE_CHATS = 50;
const STATUSES = ["pending", "running", "interrupting", "waiting", "requires_action", "error"];
const TONES: Record<string, "good" | "warn" | "bad"> = {
  running: "good",
  pending: "warn",
  interrupting: "warn",
  requires_action: "warn",
  error: "bad",
};

export function Chats() {
  const [filters, change] = useFilters(["q", "user", "status"]);
  const [pages, setPages] = useState(1);
  const refresh = useRefresh(EVERY_MS);
  const query = useQuery({
    queryKey: ["all-chats", filters, pages],
    queryFn: ({ signal }) => read(filters, pages, signal),
    refetchInterval: refresh.everyMs,
    placeholderData: keepPreviousData,
  });
  return (
    <Panel title="Chats" what="chats" query={query} refresh={refresh}>
      {(data) => (
        <>
          <div className="flex flex-wrap gap-2 pb-3">
            <Filter label="Title contains" value={filters.q} onChange={(value) => change("q", value)} />
            <Filter label="User" value={filters.user} onChange={(value) => change("user", value)} />
            <select
              aria-label="Status"
              className={`${INPUT} sm:!w-44`}
              value={filters.status}
              onChange={(event) => change("status", event.target.value)}
            >
              <option value="">Any status</option>
              {STATUSES.map((status) => (
                <option key={status}>{status}</option>
              ))}
            </select>
          </div>
          {data.rows.length ? (
            <Table label="Chats" columns={COLUMNS} rows={data.rows} rowKey={(row) => row.chat.id} />
          ) : (
            <Empty title="No chat matches" />
          )}
          {data.has_more && (
            <Button className="mt-3" onClick={() => setPages(pages + 1)}>
              More chats
            </Button>
          )}
        </>
      )}
    </Panel>
  );
}

function read(filters: Record<string, string>, pages: number, signal: AbortSignal): Promise<Rows<OwnedChat>> {
  const page = (last: OwnedChat | undefined) =>
    api.get<Answer>("/admin/chats", { ...filters, limit: PAGE_CHATS, after: last?.chat.id }, signal);
  return readPages(pages, page, ({ chats }) => chats);
}

const COLUMNS: Column<OwnedChat>[] = [
  {
    name: "Title",
    cell: (row) => <span className="foreign line-clamp-2 min-w-40 font-medium">{row.chat.title || "Untitled"}</span>,
  },
  { name: "User", cell: (row) => <span className="foreign">{row.user ?? "–"}</span> },
  {
    name: "Status",
    cell: (row) => (
      <Badge tone={TONES[row.chat.status] ?? "plain"}>{row.chat.archived ? "archived" : row.chat.status}</Badge>
    ),
  },
  { name: "Cause", cell: (row) => row.chat.cause || "–" },
  { name: "Replica", cell: (row) => <ReplicaName workerId={row.chat.worker_id} /> },
  { name: "Epoch", cell: (row) => row.chat.epoch, isNumber: true },
  { name: "Changed", cell: (row) => <Time at={row.chat.updated_at} /> },
];

function ReplicaName({ workerId }: { workerId: string | null }) {
  const name = useReplicaName(workerId);
  return <span className="foreign">{workerId ? (name ?? workerId.slice(0, 8)) : "–"}</span>;
}

type FilterProps = { label: string; value: string; onChange: (value: string) => void };

export function Filter({ label, value, onChange }: FilterProps) {
  return (
    <input
      type="search"
      aria-label={label}
      placeholder={label}
      className={`${INPUT} sm:!w-56`}
      value={value}
      maxLength={200}
      onChange={(event) => onChange(event.target.value)}
    />
  );
}
