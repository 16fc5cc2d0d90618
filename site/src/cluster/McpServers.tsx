import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Schemas } from "../client/index.ts";
import { api } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { Confirm } from "../ui/Dialog.tsx";
import { Empty } from "../ui/Notice.tsx";
import { Addressed, Badge, type Column, Table } from "../ui/Table.tsx";
import { change } from "./change.ts";
import { EditAndRemove } from "./EditAndRemove.tsx";
import { McpForm } from "./McpForm.tsx";
import { McpTest } from "./McpTest.tsx";
import { Panel } from "./Panel.tsx";

export type McpServer = Schemas["McpServerAnswer"];

export const MCP_SERVERS = ["mcp-servers"];
export const mcpPath = (slug: string) => `/admin/mcp-servers/${encodeURIComponent(slug)}`;

type Asked = { what: "add" } | { what: "edit" | "remove" | "test"; server: McpServer } | null;

/** The servers that chats have their tools from. */
export function McpServers() {
  const [asked, ask] = useState<Asked>(null);
  const query = useQuery({
    queryKey: MCP_SERVERS,
    queryFn: async () => (await api.get<{ mcp_servers: McpServer[] }>("/admin/mcp-servers")).mcp_servers,
  });
  const add = (
    <Button look="main" onClick={() => ask({ what: "add" })}>
      New server
    </Button>
  );
  return (
    <>
      <Panel title="Tools" what="servers of tools" query={query} actions={add}>
        {(servers) =>
          servers.length ? (
            <Table label="Servers of tools" columns={columns(ask)} rows={servers} rowKey={(row) => row.slug} />
          ) : (
            <Empty title="No servers of tools">Add one that speaks MCP, and chats can use its tools.</Empty>
          )
        }
      </Panel>
      {asked?.what === "add" && <McpForm server={null} onClose={() => ask(null)} />}
      {asked?.what === "edit" && <McpForm server={asked.server} onClose={() => ask(null)} />}
      {asked?.what === "test" && <McpTest slug={asked.server.slug} onClose={() => ask(null)} />}
      {asked?.what === "remove" && (
        <Confirm
          title={`Remove the server ${asked.server.slug}?`}
          action="Remove"
          onConfirm={() => void remove(asked.server)}
          onClose={() => ask(null)}
        >
          Its secrets and all logins at it are forgotten. Chats that name it go on without its tools.
        </Confirm>
      )}
    </>
  );
}

const remove = ({ slug }: McpServer) =>
  change("Remove", `The server ${slug} is removed.`, MCP_SERVERS, () => api.delete(mcpPath(slug)));

const enable = ({ slug }: McpServer, enabled: boolean) =>
  change("Change", `${slug} is ${enabled ? "on" : "off"}.`, MCP_SERVERS, () => api.patch(mcpPath(slug), { enabled }));

const AVAILABLE: Record<string, string> = { off: "to nobody new", choice: "to chats that name it", always: "to all" };

function columns(ask: (asked: Asked) => void): Column<McpServer>[] {
  return [
    { name: "Server", cell: (row) => <Addressed name={row.slug} address={row.url} /> },
    { name: "Signs in by", cell: (row) => <SignsIn server={row} /> },
    { name: "Available", cell: (row) => AVAILABLE[row.availability] ?? row.availability },
    { name: "Approval", cell: (row) => row.approval },
    {
      name: "State",
      cell: (row) => <Badge tone={row.enabled ? "good" : "plain"}>{row.enabled ? "enabled" : "disabled"}</Badge>,
    },
    {
      name: "",
      cell: (row) => (
        <div className="flex items-center justify-end gap-1">
          <Button aria-label={`Test ${row.slug}`} onClick={() => ask({ what: "test", server: row })}>
            Test
          </Button>
          <Button
            aria-label={`${row.enabled ? "Disable" : "Enable"} ${row.slug}`}
            onClick={() => void enable(row, !row.enabled)}
          >
            {row.enabled ? "Disable" : "Enable"}
          </Button>
          <EditAndRemove name={row.slug} ask={(what) => ask({ what, server: row })} />
        </div>
      ),
    },
  ];
}

function SignsIn({ server }: { server: McpServer }) {
  const shown = Object.values(server.secrets).map(({ last4 }) => `…${last4}`);
  return (
    <span className="foreign">
      {String(server.auth.kind)}
      {shown.length > 0 && <code className="font-mono text-xs"> {shown.join(", ")}</code>}
    </span>
  );
}
