import { type FocusEvent, type FormEvent, type ReactNode, useState } from "react";
import { Button } from "./Button.tsx";
import { Dialog } from "./Dialog.tsx";
import { Field, INPUT } from "./Field.tsx";
import { Notice } from "./Notice.tsx";

type FormDialogProps = {
  title: string;
  action: string;
  canSubmit?: boolean;
  /** Resolves when it is done. What it throws is told here, and what was written stays. */
  onSubmit: () => Promise<void>;
  onClose: () => void;
  children: ReactNode;
};

/** A form that stays open until the server has taken it. */
export function FormDialog({ title, action, canSubmit = true, onSubmit, onClose, children }: FormDialogProps) {
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (isBusy || !canSubmit) return;
    setBusy(true);
    setProblem("");
    try {
      await onSubmit();
      onClose();
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose} wide isForm>
      <form onSubmit={(event) => void submit(event)} className="flex flex-col gap-4" autoComplete="off">
        {children}
        {problem && (
          <Notice tone="bad" role="alert">
            {problem}
          </Notice>
        )}
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" look="main" disabled={!canSubmit || isBusy}>
            {action}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

type TextProps = {
  label: string;
  hint?: string;
  value: string;
  onChange: (value: string) => void;
  type?: "text" | "password" | "number" | "url";
  required?: boolean;
  step?: string;
  maxLength?: number;
  onFocus?: (event: FocusEvent<HTMLInputElement>) => void;
};

export function Text({ label, hint, value, onChange, type = "text", ...rest }: TextProps) {
  return (
    <Field label={label} {...(hint && { hint })}>
      <input
        className={INPUT}
        type={type}
        value={value}
        min={type === "number" ? 0 : undefined}
        autoComplete={type === "password" ? "new-password" : "off"}
        spellCheck={false}
        onChange={(event) => onChange(event.target.value)}
        {...rest}
      />
    </Field>
  );
}

type ChoiceProps<Value extends string> = {
  label: string;
  hint?: string;
  value: Value;
  options: Readonly<Partial<Record<Value, string>>>;
  onChange: (value: Value) => void;
};

export function Choice<Value extends string>({ label, hint, value, options, onChange }: ChoiceProps<Value>) {
  return (
    <Field label={label} {...(hint && { hint })}>
      <select className={INPUT} value={value} onChange={(event) => onChange(event.target.value as Value)}>
        {Object.entries<string | undefined>(options).map(([name, words]) => (
          <option key={name} value={name}>
            {words}
          </option>
        ))}
      </select>
    </Field>
  );
}

type CheckProps = { label: string; checked: boolean; onChange: (checked: boolean) => void };

export function Check({ label, checked, onChange }: CheckProps) {
  return (
    <label className="flex min-h-6 items-center gap-2 text-sm">
      <input
        type="checkbox"
        className="size-4"
        checked={checked}
        onChange={(event) => onChange(event.target.checked)}
      />
      {label}
    </label>
  );
}
