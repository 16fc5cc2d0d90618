import type { ComponentProps, ReactNode } from "react";

/** A border that is not seen is where the system's colours take the place of ours: backgrounds are not there then. */
const LOOKS = {
  plain: "bg-transparent hover:bg-pressed text-ink",
  soft: "border border-transparent bg-raised hover:bg-pressed text-ink",
  main: "border border-transparent bg-accent text-on-accent hover:brightness-110",
  danger: "border border-transparent bg-bad text-page hover:brightness-110",
} as const;

export type Look = keyof typeof LOOKS;

export function buttonClass(look: Look = "soft", more = ""): string {
  const off = "disabled:opacity-50 disabled:cursor-default disabled:hover:brightness-100";
  return `inline-flex min-h-8 items-center justify-center gap-1.5 rounded-lg px-3 text-sm font-medium ${LOOKS[look]} ${off} ${more}`;
}

type ButtonProps = ComponentProps<"button"> & { look?: Look };

export function Button({ look = "soft", className = "", ...rest }: ButtonProps) {
  return <button type="button" className={buttonClass(look, className)} {...rest} />;
}

type IconButtonProps = Omit<ButtonProps, "children"> & { label: string; children: ReactNode };

/** A button of an icon alone: its label is its name and its tooltip. */
export function IconButton({ look = "plain", label, className = "", ...rest }: IconButtonProps) {
  return (
    <button
      type="button"
      aria-label={label}
      title={label}
      className={`inline-flex size-8 shrink-0 items-center justify-center rounded-lg ${LOOKS[look]} disabled:opacity-50 ${className}`}
      {...rest}
    />
  );
}
