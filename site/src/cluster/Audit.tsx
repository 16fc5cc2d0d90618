import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Schemas } from "../client/index.ts";
import { api } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { Empty } from "../ui/Notice.tsx";
import { type Column, Table } from "../ui/Table.tsx";
import { Time } from "../ui/Time.tsx";
import { Panel } from "./Panel.tsx";

type Entry = Schemas["AuditEntry"];

const PAGE = 100;
const PAGE_MAX = 500;

/** What administrators did. */
export function Audit() {
  const [limit, setLimit] = useState(PAGE);
  const query = useQuery({
    queryKey: ["audit", limit],
    queryFn: () => api.get<{ entries: Entry[]; has_more: boolean }>("/admin/audit", { limit }),
    placeholderData: keepPreviousData,
  });
  return (
    <Panel title="Audit" what="audit log" query={query}>
      {({ entries, has_more }) => (
        <>
          {entries.length ? (
            <Table label="Audit log" columns={COLUMNS} rows={entries} rowKey={(row) => row.id} />
          ) : (
            <Empty title="Nothing was administered yet">
              Tokens that are made or revoked, and drains, are kept for 90 days.
            </Empty>
          )}
          {has_more && limit < PAGE_MAX && (
            <Button className="mt-3" onClick={() => setLimit(Math.min(PAGE_MAX, limit + PAGE))}>
              More entries
            </Button>
          )}
        </>
      )}
    </Panel>
  );
}

const COLUMNS: Column<Entry>[] = [
  { name: "When", cell: (row) => <Time at={row.at} /> },
  { name: "Who", cell: (row) => <span className="foreign">{row.user ?? "–"}</span> },
  { name: "Action", cell: (row) => <code className="font-mono text-xs">{row.action}</code> },
  { name: "Of", cell: (row) => <span className="foreign">{row.target}</span> },
  {
    name: "Details",
    cell: (row) => (
      <code className="foreign font-mono text-xs">
        {Object.keys(row.details ?? {}).length ? JSON.stringify(row.details) : "–"}
      </code>
    ),
  },
];
