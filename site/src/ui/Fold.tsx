import { ChevronRight, LoaderCircle, type LucideIcon } from "lucide-react";
import type { ReactNode } from "react";

type MarkProps = { Icon: LucideIcon; look: string; children: ReactNode; role?: "status" };

/** How something fares: an icon, which turns while it is not over, and words. */
export function Mark({ Icon, look, children, role }: MarkProps) {
  return (
    <span role={role} className={`flex shrink-0 items-center gap-1 ${look}`}>
      <Icon size={15} aria-hidden className={Icon === LoaderCircle ? "turning" : ""} />
      {children}
    </span>
  );
}

type FoldProps = {
  Icon: LucideIcon;
  /** What it is, for those who do not see the icon. */
  kind: string;
  name: string;
  isOpen: boolean;
  onToggle: () => void;
  /** What stands behind the name, also while it is folded. */
  children: ReactNode;
};

/** The line of a card that opens and folds it. */
export function Fold({ Icon, kind, name, isOpen, onToggle, children }: FoldProps) {
  return (
    <button
      type="button"
      aria-expanded={isOpen}
      className="flex min-h-9 w-full min-w-0 flex-1 items-center gap-2 rounded-xl px-3 py-1 text-left"
      onClick={onToggle}
    >
      <ChevronRight size={15} aria-hidden className={`shrink-0 text-soft ${isOpen ? "rotate-90" : ""}`} />
      <Icon size={15} aria-hidden className="shrink-0 text-soft max-sm:hidden" />
      <span className="foreign min-w-0 flex-1 truncate">
        <span className="sr-only">{kind} </span>
        {name}
      </span>
      {children}
    </button>
  );
}
