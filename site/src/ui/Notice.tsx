import { CircleAlert, CircleCheck, Info, LoaderCircle, TriangleAlert } from "lucide-react";
import type { ReactNode } from "react";

const TONES = {
  info: { look: "bg-raised text-ink", Icon: Info },
  busy: { look: "bg-raised text-ink", Icon: LoaderCircle },
  good: { look: "bg-good-tint text-good", Icon: CircleCheck },
  warn: { look: "bg-warn-tint text-warn", Icon: TriangleAlert },
  bad: { look: "bg-bad-tint text-bad", Icon: CircleAlert },
} as const;

export type Tone = keyof typeof TONES;

type NoticeProps = { tone: Tone; children: ReactNode; action?: ReactNode; role?: "alert" | "status" };

/** A line that says how things are: an icon and words, never a colour alone. */
export function Notice({ tone, children, action, role }: NoticeProps) {
  const { look, Icon } = TONES[tone];
  return (
    <div role={role} className={`flex flex-wrap items-center gap-x-3 gap-y-1 rounded-xl px-3.5 py-2 text-sm ${look}`}>
      <div className="flex min-w-[min(14rem,85%)] flex-1 gap-3">
        {/* as high as a line, of which it stands beside the first */}
        <Icon size={16} aria-hidden className={`h-[1lh] shrink-0 ${tone === "busy" ? "turning" : ""}`} />
        <div className="foreign min-w-0 flex-1">{children}</div>
      </div>
      {action}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <div role="status" className="flex items-center gap-2 p-4 text-sm text-soft">
      <LoaderCircle size={16} aria-hidden className="turning" />
      Loading {what} …
    </div>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="flex flex-col items-center gap-1 px-6 py-12 text-center">
      <p className="font-medium">{title}</p>
      <div className="max-w-sm text-sm text-soft">{children}</div>
    </div>
  );
}
