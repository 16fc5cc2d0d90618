import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, queries } from "./server.ts";
import { Button } from "./ui/Button.tsx";
import { Field, INPUT } from "./ui/Field.tsx";
import { Notice } from "./ui/Notice.tsx";
import { say, sayError } from "./ui/Toast.tsx";

type StandingPromptProps = { path: "/me/prompt" | "/config/system-prompt"; label: string; hint: string };

/** What models are told in all chats: of oneself, or of the cluster. */
export function StandingPrompt({ path, label, hint }: StandingPromptProps) {
  const key = ["prompt", path];
  const { data, error } = useQuery({
    queryKey: key,
    queryFn: () => api.get<{ prompt: string | null }>(path),
    staleTime: 0,
  });
  const [text, setText] = useState<string | null>(null);
  const [isBusy, setBusy] = useState(false);
  const before = data?.prompt ?? "";
  const save = async () => {
    setBusy(true);
    try {
      queries.setQueryData(key, await api.put(path, { prompt: text || null }));
      setText(null);
      say("Saved. It holds from each chat's next message on.");
    } catch (problem) {
      sayError("Save", problem);
    }
    setBusy(false);
  };
  if (error) return <Notice tone="bad">{`${label}: ${error.message}`}</Notice>;
  return (
    <div className="flex flex-col gap-2">
      <Field label={label} hint={hint}>
        <textarea
          className={`${INPUT} field-sizing-content max-h-60`}
          rows={2}
          disabled={!data}
          value={text ?? before}
          onChange={(event) => setText(event.target.value)}
        />
      </Field>
      {text !== null && text !== before && (
        <div className="flex justify-end gap-2">
          <Button onClick={() => setText(null)}>Cancel</Button>
          <Button look="main" disabled={isBusy} onClick={() => void save()}>
            Save
          </Button>
        </div>
      )}
    </div>
  );
}
