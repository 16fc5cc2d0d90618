import type { Chat } from "../client/index.ts";
import { Confirm, Prompt } from "../ui/Dialog.tsx";
import { patchChat } from "./actions.ts";
import ChatSettings from "./ChatSettings.tsx";

const TITLE_MAX = 200;

type ChatDialogProps = {
  asking: "rename" | "delete" | "settings";
  chat: Chat;
  onDelete: () => void;
  onClose: () => void;
};

/** What the menu of a chat asks before it does something. */
export default function ChatDialog({ asking, chat, onDelete, onClose }: ChatDialogProps) {
  if (asking === "settings") return <ChatSettings chat={chat} onClose={onClose} />;
  if (asking === "rename") {
    return (
      <Prompt
        title="Rename chat"
        label="Title"
        value={chat.title}
        action="Rename"
        maxLength={TITLE_MAX}
        onSubmit={(title) => void patchChat(chat, { title }, "Rename")}
        onClose={onClose}
      />
    );
  }
  return (
    <Confirm title={`Delete “${chat.title}”?`} action="Delete" onConfirm={onDelete} onClose={onClose}>
      The chat and all its messages are deleted for good. An answer that is under way is stopped.
    </Confirm>
  );
}
