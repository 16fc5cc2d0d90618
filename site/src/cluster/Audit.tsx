import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Schemas } from "../client/index.ts";
import { api } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { Empty } from "../ui/Notice.tsx";
import { type Column, Table } from "../ui/Table.tsx";
import { Time } from "../ui/Time.tsx";
import { Panel } from "./Panel.tsx";
import { PAGE_ROWS, type Rows, readPages } from "./pages.ts";

type Entry = Schemas["AuditEntry"];
type Answer = { entries: Entry[]; has_more: boolean };

/** What administrators did. */
export function Audit() {
  const [pages, setPages] = useState(1);
  const query = useQuery({
    queryKey: ["audit", pages],
    queryFn: ({ signal }) => read(pages, signal),
    placeholderData: keepPreviousData,
  });
  return (
    <Panel title="Audit" what="audit log" query={query}>
      {({ rows, has_more }) => (
        <>
          {rows.length ? (
            <Table label="Audit log" columns={COLUMNS} rows={rows} rowKey={(row) => row.id} />
          ) : (
            <Empty title="Nothing was administered yet">
              What administrators do to tokens, replicas, models and servers of tools is kept for 90 days.
            </Empty>
          )}
          {has_more && (
            <Button className="mt-3" onClick={() => setPages(pages + 1)}>
              More entries
            </Button>
          )}
        </>
      )}
    </Panel>
  );
}

function read(pages: number, signal: AbortSignal): Promise<Rows<Entry>> {
  return readPages(
    pages,
    (last: Entry | undefined) => api.get<Answer>("/admin/audit", { limit: PAGE_ROWS, before: last?.id }, signal),
    ({ entries }) => entries,
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
      <code className="foreign block min-w-64 font-mono text-xs">
        {Object.keys(row.details ?? {}).length ? JSON.stringify(row.details) : "–"}
      </code>
    ),
  },
];
