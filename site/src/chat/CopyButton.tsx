import { Check, Copy } from "lucide-react";
import { useState } from "react";
import { IconButton } from "../ui/Button.tsx";
import { sayError } from "../ui/Toast.tsx";

const SHOWN_MS = 1500;

export function CopyButton({ text, label }: { text: string; label: string }) {
  const [isDone, setDone] = useState(false);
  const copy = async () => {
    try {
      await copied(text);
      setDone(true);
      setTimeout(() => setDone(false), SHOWN_MS);
    } catch (error) {
      sayError("Copy", error);
    }
  };
  return (
    <IconButton label={isDone ? "Copied" : label} onClick={() => void copy()}>
      {isDone ? <Check size={15} aria-hidden /> : <Copy size={15} aria-hidden />}
    </IconButton>
  );
}

/** The clipboard's own way exists on HTTPS and localhost alone. */
async function copied(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const before = document.activeElement as HTMLElement | null;
  const field = Object.assign(document.createElement("textarea"), { value: text });
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  before?.focus();
  if (!done) throw new Error("the browser does not allow it");
}
