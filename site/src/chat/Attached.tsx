import { CircleX, FileText, LoaderCircle, RotateCcw, X } from "lucide-react";
import type { ReactNode } from "react";
import { api } from "../server.ts";
import { IconButton } from "../ui/Button.tsx";
import { type Attachment, type Attachments, bytes, GONE } from "./attachments.ts";

type AttachedProps = { attachments: Attachments; shown: readonly Attachment[]; disabled: boolean };

/** The files of a draft, each with how far it is. */
export default function Attached({ attachments, shown, disabled }: AttachedProps) {
  return (
    <>
      <ul aria-label="Attached files" className="flex max-h-44 flex-wrap gap-2 overflow-y-auto p-3 pb-0">
        {shown.map((one) => (
          <li
            key={one.key}
            className={`flex min-w-0 max-w-full items-center gap-2 rounded-xl border py-1 pl-2.5 pr-1 text-sm ${
              one.state === "failed" ? "border-bad bg-bad-tint text-bad" : "border-line bg-side"
            }`}
          >
            <Picture of={one} />
            <span className="flex min-w-0 flex-col leading-tight">
              <span className="foreign max-w-56 truncate" title={one.name}>
                {one.name}
              </span>
              <span className={`foreign text-xs ${one.state === "failed" ? "" : "text-soft"}`}>{stateOf(one)}</span>
            </span>
            {one.state === "failed" && one.problem !== GONE && (
              <IconButton
                label={`Try ${one.name} again`}
                disabled={disabled}
                onClick={() => attachments.again(one.key)}
              >
                <RotateCcw size={15} aria-hidden />
              </IconButton>
            )}
            <IconButton label={`Remove ${one.name}`} disabled={disabled} onClick={() => attachments.remove(one.key)}>
              <X size={16} aria-hidden />
            </IconButton>
          </li>
        ))}
      </ul>
      <p role="status" className="sr-only">
        {summary(shown)}
      </p>
    </>
  );
}

function Picture({ of }: { of: Attachment }): ReactNode {
  const size = 18;
  if (of.state === "failed") return <CircleX size={size} aria-hidden className="shrink-0" />;
  if (of.state !== "there") return <LoaderCircle size={size} aria-hidden className="turning shrink-0 text-soft" />;
  if (!of.file?.media_type?.startsWith("image/")) {
    return <FileText size={size} aria-hidden className="shrink-0 text-soft" />;
  }
  return <img src={api.fileUrl(of.file.id)} alt="" className="size-8 shrink-0 rounded object-cover" />;
}

function stateOf({ state, fraction, problem, size }: Attachment): ReactNode {
  if (state === "failed") return problem;
  if (state === "waiting") return "waits";
  if (state === "there") return bytes(size);
  return (
    <progress value={fraction} max={1} aria-label="Sent" className="h-1.5 w-24 accent-accent">
      {Math.round(fraction * 100)} %
    </progress>
  );
}

function summary(shown: readonly Attachment[]): string {
  const of = (state: Attachment["state"]) => shown.filter((one) => one.state === state).length;
  const failed = of("failed");
  if (of("sending") + of("waiting") > 0) return "Files are being sent.";
  return failed ? `${failed} of ${shown.length} files cannot be attached.` : `${shown.length} attached.`;
}
