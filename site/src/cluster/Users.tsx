import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import type { Schemas } from "../client/index.ts";
import { api } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { Empty } from "../ui/Notice.tsx";
import { Badge, type Column, Table } from "../ui/Table.tsx";
import { Time } from "../ui/Time.tsx";
import { Panel } from "./Panel.tsx";
import { PAGE_ROWS, type Rows, readPages } from "./pages.ts";

type User = Schemas["UserRow"];
type Answer = { users: User[]; has_more: boolean };

export function Users() {
  const [pages, setPages] = useState(1);
  const query = useQuery({
    queryKey: ["users", pages],
    queryFn: ({ signal }) => read(pages, signal),
    placeholderData: keepPreviousData,
  });
  return (
    <Panel title="Users" what="users" query={query}>
      {({ rows, has_more }) => (
        <>
          {rows.length ? (
            <Table label="Users" columns={COLUMNS} rows={rows} rowKey={(row) => row.user_id} />
          ) : (
            <Empty title="No users" />
          )}
          {has_more && (
            <Button className="mt-3" onClick={() => setPages(pages + 1)}>
              More users
            </Button>
          )}
        </>
      )}
    </Panel>
  );
}

function read(pages: number, signal: AbortSignal): Promise<Rows<User>> {
  return readPages(
    pages,
    (last: User | undefined) => api.get<Answer>("/admin/users", { limit: PAGE_ROWS, after: last?.name }, signal),
    ({ users }) => users,
  );
}

const COLUMNS: Column<User>[] = [
  { name: "Name", cell: (row) => <span className="foreign font-medium">{row.name}</span> },
  {
    name: "May",
    cell: (row) => <Badge tone={row.admin ? "warn" : "plain"}>{row.admin ? "administrator" : "user"}</Badge>,
  },
  {
    name: "Chats",
    cell: (row) => (
      <Link href={`/cluster/chats?user=${encodeURIComponent(row.name)}`} className="text-accent underline">
        {row.chats}
      </Link>
    ),
    isNumber: true,
  },
  { name: "Tokens", cell: (row) => row.tokens, isNumber: true },
  { name: "Created", cell: (row) => <Time at={row.created_at} /> },
];
