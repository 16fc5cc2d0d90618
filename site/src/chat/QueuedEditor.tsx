import { useState } from "react";
import { type Content, contentOf, filesIn, type Queued, textOf } from "../client/index.ts";
import { Button } from "../ui/Button.tsx";
import { Dialog } from "../ui/Dialog.tsx";
import { INPUT } from "../ui/Field.tsx";
import { KeptFiles } from "./Files.tsx";

type EditorProps = { queued: Queued; onSave: (content: Content) => void; onClose: () => void };

/** A queued message as it is edited. Its place in the queue stays. */
export default function QueuedEditor({ queued, onSave, onClose }: EditorProps) {
  const [text, setText] = useState(textOf(queued.parts));
  const [files, setFiles] = useState(filesIn(queued.parts));
  return (
    <Dialog title="Edit queued message" onClose={onClose} isForm>
      <KeptFiles files={files} onChange={setFiles} />
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
          disabled={!text.trim() && !files.length}
          onClick={() => {
            onSave(contentOf(text, files));
            onClose();
          }}
        >
          Save
        </Button>
      </div>
    </Dialog>
  );
}
