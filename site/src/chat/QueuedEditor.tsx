import { useState } from "react";
import { type Content, contentOf, filesIn, type Queued, textOf } from "../client/index.ts";
import { INPUT } from "../ui/Field.tsx";
import { FormDialog } from "../ui/FormDialog.tsx";
import { KeptFiles } from "./Files.tsx";

type EditorProps = { queued: Queued; onSave: (content: Content) => Promise<void>; onClose: () => void };

/** A queued message as it is edited. Its place in the queue stays. */
export default function QueuedEditor({ queued, onSave, onClose }: EditorProps) {
  const [text, setText] = useState(textOf(queued.parts));
  const [files, setFiles] = useState(filesIn(queued.parts));
  return (
    <FormDialog
      title="Edit queued message"
      action="Save"
      canSubmit={text.trim() !== "" || files.length > 0}
      onSubmit={() => onSave(contentOf(text, files))}
      onClose={onClose}
    >
      <KeptFiles files={files} onChange={setFiles} />
      <textarea
        aria-label="Message"
        rows={4}
        className={`${INPUT} field-sizing-content max-h-[50dvh]`}
        value={text}
        onChange={(event) => setText(event.target.value)}
      />
    </FormDialog>
  );
}
