import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { SignIn } from "./chat/SignIn.tsx";
import type { Schemas } from "./client/index.ts";
import { api, chatNow, readAgain } from "./server.ts";
import { Button } from "./ui/Button.tsx";
import { Loading, Notice } from "./ui/Notice.tsx";
import { Time } from "./ui/Time.tsx";
import { sayError } from "./ui/Toast.tsx";

type Permission = Schemas["Permission"];
type MyServer = Schemas["MyServer"];

const PERMISSIONS = ["tool-permissions"];
const SERVERS = ["my-servers"];

/** What the one who is signed in allowed to tools for good, and where they signed in for them. */
export function MyTools() {
  return (
    <>
      <Servers />
      <Permissions />
    </>
  );
}

function Permissions() {
  const query = useQuery({
    queryKey: PERMISSIONS,
    queryFn: async () => (await api.get<{ permissions: Permission[] }>("/me/tool-permissions")).permissions,
    staleTime: 0,
  });
  if (query.data?.length === 0) return null;
  return (
    <Section title="Tools that you are not asked about" what="permissions" error={query.error}>
      {query.data?.map((one) => (
        <Row key={one.id} name={one.tool}>
          <span className="text-soft">
            {one.chat_id ? <>in {<ChatName id={one.chat_id} />}</> : "in all chats"}, until{" "}
            <Time at={one.expires_at} isAhead />
          </span>
          <Button
            aria-label={`Ask about ${one.tool} again`}
            onClick={() => void change("Ask again", `/me/tool-permissions/${one.id}`, PERMISSIONS)}
          >
            Ask again
          </Button>
        </Row>
      ))}
    </Section>
  );
}

function ChatName({ id }: { id: string }) {
  const chat = useQuery({ queryKey: ["chat", id], queryFn: () => chatNow(id), retry: false });
  return chat.data ? `“${chat.data.title || "Untitled"}”` : "one chat";
}

function Servers() {
  const query = useQuery({
    queryKey: SERVERS,
    queryFn: async () => (await api.get<{ mcp_servers: MyServer[] }>("/me/mcp-servers")).mcp_servers,
    staleTime: 0,
    refetchOnWindowFocus: true, // one comes back from signing in
  });
  if (query.data?.length === 0) return null;
  return (
    <Section title="Servers of tools that you sign in at" what="servers" error={query.error}>
      {query.data?.map((server) => (
        <Row key={server.slug} name={server.slug}>
          <span className="text-soft">
            {server.signed_in ? "signed in" : server.refused ? "the login is not good any more" : "not signed in"}
          </span>
          {server.signed_in ? (
            <Button
              aria-label={`Sign out of ${server.slug}`}
              onClick={() => void change("Sign out", `/me/mcp-servers/${server.slug}/login`, SERVERS)}
            >
              Sign out
            </Button>
          ) : (
            <SignIn slug={server.slug} again={server.refused} />
          )}
        </Row>
      ))}
    </Section>
  );
}

async function change(doing: string, path: string, key: string[]): Promise<void> {
  try {
    await api.delete(path);
  } catch (error) {
    sayError(doing, error);
  }
  await readAgain(key);
}

type SectionProps = { title: string; what: string; error: Error | null; children: ReactNode };

function Section({ title, what, error, children }: SectionProps) {
  return (
    <section aria-label={title} className="flex flex-col gap-1">
      <h3 className="text-sm font-medium">{title}</h3>
      {error && (
        <Notice tone="bad" role="alert">
          The {what} cannot be read: {error.message}
        </Notice>
      )}
      {!error && (children ?? <Loading what={what} />)}
    </section>
  );
}

function Row({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div className="flex flex-wrap items-center gap-2 text-sm">
      <code className="foreign min-w-0 flex-1 break-all font-mono">{name}</code>
      {children}
    </div>
  );
}
