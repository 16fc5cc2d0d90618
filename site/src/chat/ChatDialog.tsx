import { useState } from "react";
import type { Chat } from "../client/index.ts";
import { api, takeChat } from "../server.ts";
import { Confirm } from "../ui/Dialog.tsx";
import { FormDialog, Text } from "../ui/FormDialog.tsx";
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
  if (asking === "rename") return <Rename chat={chat} onClose={onClose} />;
  return (
    <Confirm title={`Delete “${chat.title}”?`} action="Delete" onConfirm={onDelete} onClose={onClose}>
      The chat and all its messages are deleted for good. An answer that is under way is stopped.
    </Confirm>
  );
}

function Rename({ chat, onClose }: { chat: Chat; onClose: () => void }) {
  const [title, setTitle] = useState(chat.title);
  const rename = async () => takeChat(await api.patch<Chat>(`/chats/${chat.id}`, { title: title.trim() }));
  return (
    <FormDialog title="Rename chat" action="Rename" canSubmit={title.trim() !== ""} onSubmit={rename} onClose={onClose}>
      <Text
        label="Title"
        value={title}
        onChange={setTitle}
        maxLength={TITLE_MAX}
        onFocus={({ target }) => target.select()}
      />
    </FormDialog>
  );
}
