import { useState } from "react";
import { Dialog } from "./ui/Dialog.tsx";
import { lettersAreOn, type Shortcut, setLetters, shown } from "./ui/keys.ts";

const IN_A_CHAT = [
  ["Enter", "Send"],
  ["Shift+Enter", "New line"],
  ["Mod+Enter", "Stop the answer, and send now"],
  ["Escape", "Stop the answer"],
  ["ArrowUp", "Edit the last message (in an empty field)"],
] as const;

type HelpProps = { shortcuts: readonly Shortcut[]; onClose: () => void };

export default function Help({ shortcuts, onClose }: HelpProps) {
  const [letters, keep] = useState(lettersAreOn);
  const rows = [...shortcuts.map(({ keys, what }) => [keys, what] as const), ...IN_A_CHAT];
  return (
    <Dialog title="Keys" onClose={onClose}>
      <dl className="grid grid-cols-[auto_1fr] gap-x-4 gap-y-1.5 text-sm">
        {rows.map(([keys, what]) => (
          <div key={keys} className="contents">
            <dt>
              <kbd className="rounded-md border border-line bg-raised px-1.5 py-0.5 font-mono text-xs">
                {shown(keys)}
              </kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <label className="flex items-center gap-2 text-sm">
        <input
          type="checkbox"
          className="size-4"
          checked={letters}
          onChange={(event) => {
            setLetters(event.target.checked);
            keep(event.target.checked);
          }}
        />
        Keys that are single letters
      </label>
    </Dialog>
  );
}
