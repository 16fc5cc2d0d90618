import { useState } from "react";
import { api, readAgain } from "../server.ts";
import { Check, Choice, FormDialog, Text } from "../ui/FormDialog.tsx";
import { say } from "../ui/Toast.tsx";
import { wordsOf } from "./change.ts";
import { MCP_SERVERS, type McpServer, mcpPath } from "./McpServers.tsx";

const KEPT = "kept";
const KINDS = {
  none: "Nothing: everybody gets in",
  bearer: "A bearer token",
  api_key: "A header with a key",
  client_credentials: "OAuth: the cluster signs in",
  oauth: "OAuth: each user signs in",
} as const;
type Kind = keyof typeof KINDS | typeof KEPT;
/** What each way of signing in asks for; secrets are written without being shown. */
const ASKED: Record<Kind, readonly [name: string, label: string, isSecret: boolean, isRequired: boolean][]> = {
  [KEPT]: [],
  none: [],
  bearer: [["token", "Token", true, true]],
  api_key: [
    ["header", "Name of the header", false, true],
    ["value", "Key", true, true],
  ],
  client_credentials: [
    ["client_id", "Client ID", false, true],
    ["client_secret", "Client secret", true, true],
    ["issuer", "Issuer that knows the client (empty: the first one)", false, false],
    ["token_url", "Address of tokens (empty: discovered)", false, false],
    ["scope", "Scope", false, false],
  ],
  oauth: [
    ["client_id", "Client ID (empty: the cluster registers itself)", false, false],
    ["client_secret", "Client secret", true, false],
    ["issuer", "Issuer that knows the client (empty: the first one)", false, false],
    ["scope", "Scope", false, false],
  ],
};
const AVAILABILITY = { choice: "To chats that name it", always: "To every chat", off: "To nobody new" };
const APPROVAL = { never: "Nobody is asked", ask: "The user is asked before each call", deny: "No call is run" };

type McpFormProps = {
  /** The one that is changed, or none for a new one. */
  server: McpServer | null;
  onClose: () => void;
};

export function McpForm({ server, onClose }: McpFormProps) {
  const [fields, setFields] = useState(() => fieldsOf(server));
  const [kind, setKind] = useState<Kind>(server ? KEPT : "none");
  const [auth, setAuth] = useState<Record<string, string>>({});
  const set = (some: Partial<typeof fields>) => setFields({ ...fields, ...some });
  const asked = ASKED[kind];
  const submit = async () => {
    const body = { ...bodyOf(fields), ...(kind !== KEPT && { auth: authOf(kind, auth) }) };
    if (server) await api.patch(mcpPath(server.slug), body);
    else await api.post("/admin/mcp-servers", { ...body, slug: fields.slug.trim() });
    say(`The server ${fields.slug} is ${server ? "changed" : "added"}.`);
    await readAgain(MCP_SERVERS);
  };
  return (
    <FormDialog
      title={server ? `Change the server ${server.slug}` : "New server of tools"}
      action={server ? "Save" : "Add"}
      canSubmit={
        fields.slug.trim() !== "" && fields.url.trim() !== "" && asked.every(([name, , , must]) => !must || auth[name])
      }
      onSubmit={submit}
      onClose={onClose}
    >
      {!server && (
        <Text
          label="Slug"
          hint="Lower-case letters, digits and hyphens; a part of its tools' names"
          value={fields.slug}
          onChange={(slug) => set({ slug })}
        />
      )}
      <Text label="Address" type="url" value={fields.url} onChange={(url) => set({ url })} />
      <Text
        label="Description"
        hint="For those who choose it"
        value={fields.description}
        onChange={(description) => set({ description })}
      />
      <Choice
        label="Signing in"
        value={kind}
        options={server ? { [KEPT]: `As it is (${String(server.auth.kind)})`, ...KINDS } : KINDS}
        onChange={setKind}
      />
      {asked.map(([name, label, isSecret]) => (
        <Text
          key={name}
          label={label}
          type={isSecret ? "password" : "text"}
          value={auth[name] ?? ""}
          onChange={(value) => setAuth({ ...auth, [name]: value })}
        />
      ))}
      <Choice
        label="Available"
        value={fields.availability}
        options={AVAILABILITY}
        onChange={(availability) => set({ availability })}
      />
      <Choice
        label="Before a call"
        value={fields.approval}
        options={APPROVAL}
        onChange={(approval) => set({ approval })}
      />
      <Text
        label="Tools that are not to be had"
        hint="Names, separated by commas"
        value={fields.deny}
        onChange={(deny) => set({ deny })}
      />
      <Check
        label="Trusted: its word on what its tools do counts"
        checked={fields.trusted}
        onChange={(trusted) => set({ trusted })}
      />
      <Check label="Enabled" checked={fields.enabled} onChange={(enabled) => set({ enabled })} />
    </FormDialog>
  );
}

function fieldsOf(server: McpServer | null) {
  return {
    slug: server?.slug ?? "",
    url: server?.url ?? "",
    description: server?.description ?? "",
    availability: (server?.availability ?? "choice") as keyof typeof AVAILABILITY,
    approval: (server?.approval ?? "never") as keyof typeof APPROVAL,
    deny: server?.deny.join(", ") ?? "",
    trusted: server?.trusted ?? false,
    enabled: server?.enabled ?? true,
  };
}

function bodyOf({ slug: _, ...fields }: ReturnType<typeof fieldsOf>) {
  return { ...fields, url: fields.url.trim(), description: fields.description.trim(), deny: wordsOf(fields.deny) };
}

function authOf(kind: Kind, auth: Record<string, string>) {
  const given = ASKED[kind].flatMap(([name]) => (auth[name] ? [[name, auth[name]]] : []));
  return { kind, ...Object.fromEntries(given) };
}
