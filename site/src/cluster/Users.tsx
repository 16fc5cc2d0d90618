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

type User = Schemas["UserRow"];

const PAGE = 100;
const PAGE_MAX = 500;

export function Users() {
  const [limit, setLimit] = useState(PAGE);
  const query = useQuery({
    queryKey: ["users", limit],
    queryFn: () => api.get<{ users: User[]; has_more: boolean }>("/admin/users", { limit }),
    placeholderData: keepPreviousData,
  });
  return (
    <Panel title="Users" what="users" query={query}>
      {({ users, has_more }) => (
        <>
          {users.length ? (
            <Table label="Users" columns={COLUMNS} rows={users} rowKey={(row) => row.user_id} />
          ) : (
            <Empty title="No users" />
          )}
          {has_more && limit < PAGE_MAX && (
            <Button className="mt-3" onClick={() => setLimit(Math.min(PAGE_MAX, limit + PAGE))}>
              More users
            </Button>
          )}
        </>
      )}
    </Panel>
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
