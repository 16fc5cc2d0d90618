import { Menu as Base } from "@base-ui/react/menu";
import { type ReactNode, useEffect, useRef, useState } from "react";
import { buttonClass } from "./Button.tsx";

type MenuProps = { label: string; icon: ReactNode; children: ReactNode; className?: string; opensAtOnce?: boolean };

/** A menu behind an icon. */
export function Menu({ label, icon, children, className = "", opensAtOnce = false }: MenuProps) {
  const trigger = useRef<HTMLButtonElement>(null);
  const [landmark, setLandmark] = useState<HTMLElement | null>(null);
  const [isOpen, setOpen] = useState(false);
  const change = (open: boolean) => {
    // It stays within the landmark that its trigger is in: for those who listen it is no place of its own.
    setLandmark(trigger.current?.closest<HTMLElement>("main, nav") ?? null);
    setOpen(open);
  };
  // biome-ignore lint/correctness/useExhaustiveDependencies: once, when its trigger is there
  useEffect(() => {
    if (opensAtOnce) change(true);
  }, []);
  return (
    <Base.Root modal={false} open={isOpen} onOpenChange={change}>
      <Base.Trigger
        ref={trigger}
        aria-label={label}
        title={label}
        className={buttonClass("plain", `size-8 shrink-0 !px-0 data-[popup-open]:bg-pressed ${className}`)}
      >
        {icon}
      </Base.Trigger>
      <Base.Portal container={landmark}>
        <Base.Positioner positionMethod="fixed" sideOffset={4} align="end" className="z-30 outline-hidden">
          <Base.Popup className="min-w-44 rounded-xl border border-line bg-page p-1 shadow-lg outline-hidden">
            {children}
          </Base.Popup>
        </Base.Positioner>
      </Base.Portal>
    </Base.Root>
  );
}

type ItemProps = { icon?: ReactNode; danger?: boolean; disabled?: boolean; onClick: () => void; children: ReactNode };

export function MenuItem({ icon, danger, children, ...rest }: ItemProps) {
  const colour = danger ? "text-bad" : "text-ink";
  return (
    <Base.Item
      className={`flex min-h-8 cursor-pointer items-center gap-2 rounded-lg px-2.5 text-sm outline-hidden data-[disabled]:opacity-50 data-[highlighted]:bg-raised ${colour}`}
      {...rest}
    >
      {icon}
      {children}
    </Base.Item>
  );
}
