import { useQuery } from "@tanstack/react-query";
import type { Schemas } from "../client/index.ts";
import { api } from "../server.ts";
import { Field, INPUT } from "../ui/Field.tsx";
import { Check } from "../ui/FormDialog.tsx";
import { Notice } from "../ui/Notice.tsx";

import type { Options } from "./NewChat.tsx";

type ChatOptionsProps = { options: Options; onChange: (options: Options) => void };

/** What a new chat may be given besides its first message. */
export default function ChatOptions({ options, onChange }: ChatOptionsProps) {
  const set = (some: Partial<Options>) => onChange({ ...options, ...some });
  return (
    <div className="flex flex-col gap-3 rounded-2xl border border-line p-4">
      <ModelChoice value={options.model} onChange={(model) => set({ model })} />
      <ServerChoice chosen={options.servers} onChange={(servers) => set({ servers })} />
      <Check
        label="Sub-agents: the model may have others work for it"
        checked={options.agents}
        onChange={(agents) => set({ agents })}
      />
      <PromptField value={options.prompt} onChange={(prompt) => set({ prompt })} />
    </div>
  );
}

export function PromptField({ value, onChange }: { value: string; onChange: (prompt: string) => void }) {
  return (
    <Field label="Instructions to the model">
      <textarea
        className={`${INPUT} field-sizing-content max-h-60`}
        rows={3}
        value={value}
        onChange={(event) => onChange(event.target.value)}
      />
    </Field>
  );
}

type Model = Schemas["ModelAnswer"];
type Server = Schemas["UsableServer"];

type ModelChoiceProps = { value: string; onChange: (model: string) => void };

/** Which model answers: one of those that can be asked, or the default, whichever that is. */
export function ModelChoice({ value, onChange }: ModelChoiceProps) {
  const { data, error } = useQuery({
    queryKey: ["models"],
    queryFn: async () => (await api.get<{ models: Model[] }>("/models")).models,
  });
  const standard = data?.find(({ is_default }) => is_default)?.name;
  const isGone = data && value !== "" && !data.some(({ name }) => name === value);
  return (
    <Field label="Model" {...(error && { hint: `The models cannot be read: ${error.message}` })}>
      <select className={INPUT} value={value} onChange={(event) => onChange(event.target.value)}>
        <option value="">{standard ? `The default (${standard})` : "The default"}</option>
        {isGone && <option value={value}>{value} (there is none of this name now)</option>}
        {data
          ?.filter(({ is_default }) => !is_default)
          .map(({ name }) => (
            <option key={name} value={name}>
              {name}
            </option>
          ))}
      </select>
    </Field>
  );
}

type ServerChoiceProps = { chosen: readonly string[]; onChange: (slugs: readonly string[]) => void };

/** Which servers of tools the chat has besides those that every chat has. Nothing where there is nothing to choose. */
export function ServerChoice({ chosen, onChange }: ServerChoiceProps) {
  const { data, error } = useQuery({
    queryKey: ["usable-servers"],
    queryFn: async () => (await api.get<{ mcp_servers: Server[] }>("/mcp-servers")).mcp_servers,
  });
  if (error) return <Notice tone="bad">The servers of tools cannot be read: {error.message}</Notice>;
  const choices = data?.filter(({ availability }) => availability === "choice") ?? [];
  if (!choices.length) return null;
  return (
    <fieldset className="flex flex-col gap-1">
      <legend className="pb-1 text-sm font-medium">Tools</legend>
      {choices.map(({ slug, description, sign_in }) => (
        <Check
          key={slug}
          label={`${slug}${description ? `: ${description}` : ""}${sign_in ? " (you sign in there)" : ""}`}
          checked={chosen.includes(slug)}
          onChange={(isChosen) => onChange(isChosen ? [...chosen, slug] : chosen.filter((one) => one !== slug))}
        />
      ))}
    </fieldset>
  );
}
