import { Download, FileText, X } from "lucide-react";
import { useState } from "react";
import type { FilePart } from "../client/index.ts";
import { api } from "../server.ts";
import { IconButton } from "../ui/Button.tsx";
import { bytes } from "./attachments.ts";

/** Kinds that are shown. What else a file may be is downloaded: nothing of it is run or drawn here. */
const SHOWN = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);

/** The files of a message: images as they are, all others by name. Each is downloaded at a press. */
export default function Files({ files, className = "" }: { files: readonly FilePart[]; className?: string }) {
  return (
    <ul aria-label="Files" className={`flex max-w-full flex-wrap gap-2 ${className}`}>
      {files.map((file, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a message may have a file twice, and does not change
        <li key={`${at} ${file.file_id}`} className="min-w-0 max-w-full">
          <File file={file} />
        </li>
      ))}
    </ul>
  );
}

function File({ file }: { file: FilePart }) {
  const [isBroken, setBroken] = useState(false);
  const url = api.fileUrl(file.file_id);
  if (!SHOWN.has(file.media_type) || isBroken) return <Chip file={file} note={isBroken ? "cannot be shown" : ""} />;
  return (
    <a href={url} download={file.name} title={`Download ${file.name}`} className="block rounded-xl">
      <img
        src={url}
        alt={file.name}
        loading="lazy"
        decoding="async"
        onError={() => setBroken(true)}
        className="max-h-72 min-h-8 max-w-full rounded-xl border border-line bg-side object-contain"
      />
    </a>
  );
}

function Chip({ file, note }: { file: FilePart; note: string }) {
  return (
    <a
      href={api.fileUrl(file.file_id)}
      download={file.name}
      className="flex min-w-0 max-w-full items-center gap-2 rounded-xl border border-line bg-side px-3 py-1.5 text-sm hover:bg-raised"
    >
      <FileText size={16} aria-hidden className="shrink-0 text-soft" />
      <span className="foreign min-w-0 truncate">{file.name}</span>
      <span className="shrink-0 text-xs text-soft">{note || bytes(file.size_bytes)}</span>
      <Download size={15} role="img" aria-label="download" className="shrink-0 text-soft" />
    </a>
  );
}

type KeptProps = { files: readonly FilePart[]; onChange: (files: readonly FilePart[]) => void };

/** The files of a message that is edited: they stay with it, unless they are taken away. */
export function KeptFiles({ files, onChange }: KeptProps) {
  if (!files.length) return null;
  return (
    <ul aria-label="Files of the message" className="flex flex-wrap gap-2">
      {files.map((file, at) => (
        <li
          key={file.file_id}
          className="flex min-w-0 max-w-full items-center gap-1 rounded-xl border border-line bg-side pl-2.5 pr-1 text-sm"
        >
          <span className="foreign min-w-0 truncate">{file.name}</span>
          <IconButton
            label={`Take ${file.name} away`}
            onClick={() => onChange(files.filter((_, other) => other !== at))}
          >
            <X size={15} aria-hidden />
          </IconButton>
        </li>
      ))}
    </ul>
  );
}
