import { useState } from "react";
import { type Queued, textOf } from "../client/index.ts";
import { Button } from "../ui/Button.tsx";
import { Dialog } from "../ui/Dialog.tsx";
import { INPUT } from "../ui/Field.tsx";

type EditorProps = { queued: Queued; onSave: (text: string) => void; onClose: () => void };

/** A queued message as it is edited. Its place in the queue stays. */
export default function QueuedEditor({ queued, onSave, onClose }: EditorProps) {
  const [text, setText] = useState(textOf(queued.parts));
  return (
    <Dialog title="Edit queued message" onClose={onClose}>
      <textarea
        aria-label="Message"
        rows={4}
        className={`${INPUT} field-sizing-content max-h-[50dvh]`}
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
      <div className="flex justify-end gap-2">
        <Button onClick={onClose}>Cancel</Button>
        <Button
          look="main"
          disabled={!text.trim()}
          onClick={() => {
            onSave(text);
            onClose();
          }}
        >
          Save
        </Button>
      </div>
    </Dialog>
  );
}
