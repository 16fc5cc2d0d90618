import { Pencil, Trash2 } from "lucide-react";
import { IconButton } from "../ui/Button.tsx";

/** What a row of one of the tables ends with. Either leads to a dialogue about it. */
export function EditAndRemove({ name, ask }: { name: string; ask: (what: "edit" | "remove") => void }) {
  return (
    <>
      <IconButton label={`Edit ${name}`} onClick={() => ask("edit")}>
        <Pencil size={15} aria-hidden />
      </IconButton>
      <IconButton label={`Remove ${name}`} onClick={() => ask("remove")}>
        <Trash2 size={15} aria-hidden />
      </IconButton>
    </>
  );
}
