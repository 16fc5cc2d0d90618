import {
  Archive,
  ArchiveRestore,
  Download,
  EllipsisVertical,
  FileJson,
  Pencil,
  Pin,
  PinOff,
  ScrollText,
  SlidersHorizontal,
  Trash2,
} from "lucide-react";
import { useState } from "react";
import { useLocation } from "wouter";
import type { Chat } from "../client/index.ts";
import { Menu, MenuItem } from "../ui/Menu.tsx";
import { laterLayer } from "../ui/parts.tsx";
import { sayError } from "../ui/Toast.tsx";
import { compactChat, deleteChat, isAt, patchChat } from "./actions.ts";
import { exportChat } from "./export.ts";

const ChatDialog = laterLayer(async () => (await import("./ChatDialog.tsx")).default);

const ICON = { size: 16, "aria-hidden": true } as const;

/** What one does with a chat; an agent is kept, archived and deleted with the chat that it works for. It goes to the start when the chat that is shown is deleted. */
export function ChatMenu({ chat, ...look }: { chat: Chat; className?: string; opensAtOnce?: boolean }) {
  const [asking, ask] = useState<"rename" | "delete" | "settings" | null>(null);
  const [, navigate] = useLocation();
  const remove = async () => {
    if ((await deleteChat(chat)) && isAt(`/chats/${chat.id}`)) navigate("/");
  };
  const save = (form: "markdown" | "json") => void exportChat(chat, form).catch((error) => sayError("Export", error));
  return (
    <>
      <Menu label={`Menu of ${chat.title}`} icon={<EllipsisVertical size={18} aria-hidden />} {...look}>
        <MenuItem icon={<Pencil {...ICON} />} onClick={() => ask("rename")}>
          Rename
        </MenuItem>
        {!chat.parent_id && (
          <>
            <MenuItem
              icon={chat.pinned ? <PinOff {...ICON} /> : <Pin {...ICON} />}
              onClick={() => void patchChat(chat, { pinned: !chat.pinned }, chat.pinned ? "Unpin" : "Pin")}
            >
              {chat.pinned ? "Unpin" : "Pin"}
            </MenuItem>
            <MenuItem
              icon={chat.archived ? <ArchiveRestore {...ICON} /> : <Archive {...ICON} />}
              onClick={() =>
                void patchChat(chat, { archived: !chat.archived }, chat.archived ? "Unarchive" : "Archive")
              }
            >
              {chat.archived ? "Unarchive" : "Archive"}
            </MenuItem>
          </>
        )}
        {!chat.archived && (
          <MenuItem icon={<SlidersHorizontal {...ICON} />} onClick={() => ask("settings")}>
            Settings …
          </MenuItem>
        )}
        {!chat.archived && (
          <MenuItem
            icon={<ScrollText {...ICON} />}
            disabled={chat.status !== "waiting" && chat.status !== "error"}
            onClick={() => void compactChat(chat)}
          >
            Summarise now
          </MenuItem>
        )}
        <MenuItem icon={<Download {...ICON} />} onClick={() => save("markdown")}>
          Export as Markdown
        </MenuItem>
        <MenuItem icon={<FileJson {...ICON} />} onClick={() => save("json")}>
          Export as JSON
        </MenuItem>
        {!chat.parent_id && (
          <MenuItem icon={<Trash2 {...ICON} />} danger onClick={() => ask("delete")}>
            Delete …
          </MenuItem>
        )}
      </Menu>
      {asking && <ChatDialog asking={asking} chat={chat} onDelete={() => void remove()} onClose={() => ask(null)} />}
    </>
  );
}
