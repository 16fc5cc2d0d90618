import { AlertDialog } from "@base-ui/react/alert-dialog";
import { Dialog as Base } from "@base-ui/react/dialog";
import { X } from "lucide-react";
import { type ReactNode, useRef } from "react";
import { Button, buttonClass, IconButton } from "./Button.tsx";

const BACKDROP = "fixed inset-0 z-40 bg-shade";
const POPUP =
  "fixed left-1/2 top-1/2 z-50 flex max-h-[calc(100dvh-2rem)] w-[calc(100vw-2rem)] max-w-md -translate-x-1/2 -translate-y-1/2 flex-col gap-4 overflow-y-auto rounded-2xl border border-line bg-page p-5 shadow-2xl";

type DialogProps = {
  title: string;
  onClose: () => void;
  children: ReactNode;
  wide?: boolean;
  /** It is there to write in: one begins in its first field. */
  isForm?: boolean;
  /** What it shows is shown once: no press beside it closes it. */
  isOnce?: boolean;
};

/** A dialog that is open for as long as it is rendered. Escape closes it, and so does a press outside, but of a form. */
export function Dialog({ title, onClose, children, wide, isForm = false, isOnce = false }: DialogProps) {
  const popup = useRef<HTMLDivElement>(null);
  const firstField = () => popup.current?.querySelector<HTMLElement>("input, select, textarea") ?? true;
  return (
    <Base.Root open disablePointerDismissal={isForm || isOnce} onOpenChange={(open) => !open && onClose()}>
      <Base.Portal>
        <Base.Backdrop className={BACKDROP} />
        <Base.Popup
          ref={popup}
          initialFocus={isForm ? firstField : true}
          className={`${POPUP} ${wide ? "sm:max-w-xl" : ""}`}
        >
          <div className="flex items-start justify-between gap-3">
            <Base.Title className="foreign text-lg font-semibold leading-snug">{title}</Base.Title>
            <IconButton label="Close" onClick={onClose} className="-mr-1 -mt-0.5">
              <X size={18} aria-hidden />
            </IconButton>
          </div>
          {children}
        </Base.Popup>
      </Base.Portal>
    </Base.Root>
  );
}

type ConfirmProps = {
  title: string;
  children: ReactNode;
  action: string;
  onConfirm: () => void;
  onClose: () => void;
};

/** Asks before something that cannot be undone. `title` names the object. */
export function Confirm({ title, children, action, onConfirm, onClose }: ConfirmProps) {
  return (
    <AlertDialog.Root open onOpenChange={(open) => !open && onClose()}>
      <AlertDialog.Portal>
        <AlertDialog.Backdrop className={BACKDROP} />
        <AlertDialog.Popup className={POPUP}>
          <AlertDialog.Title className="foreign text-lg font-semibold leading-snug">{title}</AlertDialog.Title>
          <AlertDialog.Description render={<div />} className="foreign text-soft">
            {children}
          </AlertDialog.Description>
          <div className="flex justify-end gap-2">
            <AlertDialog.Close className={buttonClass("soft")}>Cancel</AlertDialog.Close>
            <Button
              look="danger"
              onClick={() => {
                onConfirm();
                onClose();
              }}
            >
              {action}
            </Button>
          </div>
        </AlertDialog.Popup>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  );
}
