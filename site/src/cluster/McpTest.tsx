import { useQuery } from "@tanstack/react-query";
import type { Schemas } from "../client/index.ts";
import { api } from "../server.ts";
import { Button } from "../ui/Button.tsx";
import { Dialog } from "../ui/Dialog.tsx";
import { Empty, Loading, Notice } from "../ui/Notice.tsx";
import { type Column, Table } from "../ui/Table.tsx";
import { mcpPath } from "./McpServers.tsx";

type Report = Schemas["McpReport"];
type Tool = Schemas["McpToolReport"];

/** Connects to a server of tools now, and shows which tools there are, or what is wrong. */
export function McpTest({ slug, onClose }: { slug: string; onClose: () => void }) {
  const query = useQuery({
    queryKey: ["mcp-test", slug],
    queryFn: () => api.post<Report>(`${mcpPath(slug)}/test`),
    gcTime: 0,
    retry: false,
  });
  return (
    <Dialog title={`Test of ${slug}`} onClose={onClose} wide>
      {query.isFetching && <Loading what="the tools" />}
      {query.error && !query.isFetching && (
        <Notice tone="bad" role="alert">
          The test failed: {query.error.message}
        </Notice>
      )}
      {query.data && !query.isFetching && <Found report={query.data} />}
      <div className="flex justify-end gap-2">
        <Button disabled={query.isFetching} onClick={() => void query.refetch()}>
          Test again
        </Button>
        <Button look="main" onClick={onClose}>
          Done
        </Button>
      </div>
    </Dialog>
  );
}

function Found({ report }: { report: Report }) {
  if (!report.ok) {
    return (
      <Notice tone="bad" role="alert">
        {report.error || report.trouble || "The server gave no reason"}
      </Notice>
    );
  }
  const count = report.tools?.length ?? 0;
  return (
    <>
      <Notice tone="good" role="status">
        It answers, and has {count === 1 ? "one tool" : `${count} tools`}
        {report.left_out ? `; ${report.left_out} more are left out` : ""}.
      </Notice>
      {count ? (
        <Table label="Tools" columns={COLUMNS} rows={report.tools ?? []} rowKey={(row) => row.name} />
      ) : (
        <Empty title="It has no tools" />
      )}
    </>
  );
}

const COLUMNS: Column<Tool>[] = [
  {
    name: "Tool",
    cell: (row) => (
      <>
        <code className="foreign font-mono text-xs">{row.called}</code>
        <p className="foreign line-clamp-2 text-xs text-soft">{row.description}</p>
      </>
    ),
  },
  { name: "Effect", cell: (row) => row.effect },
  { name: "Approval", cell: (row) => row.approval },
  { name: "To be had", cell: (row) => (row.available ? "yes" : "no") },
];
