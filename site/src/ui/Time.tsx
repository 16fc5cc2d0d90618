import { useEffect, useState } from "react";

const MINUTE_MS = 60_000;

/** A moment, relative where it is near, with the full date and both clocks in its title. */
export function Time({ at }: { at: string }) {
  const now = useNow(MINUTE_MS / 2);
  const date = new Date(at);
  return (
    <time dateTime={at} title={`${date.toLocaleString()} (${date.toISOString()})`} className="whitespace-nowrap">
      {relative(date.getTime(), now)}
    </time>
  );
}

/** The present, told every so often. */
export function useNow(everyMs: number): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const ticking = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(ticking);
  }, [everyMs]);
  return now;
}

const UNITS = [
  ["day", 86_400_000],
  ["hour", 3_600_000],
  ["minute", 60_000],
] as const;
const WORDS = new Intl.RelativeTimeFormat(undefined, { numeric: "always", style: "narrow" });

export function relative(at: number, now: number): string {
  const ms = at - now;
  if (Math.abs(ms) > 14 * 86_400_000) return new Date(at).toLocaleDateString();
  for (const [unit, unitMs] of UNITS) {
    if (Math.abs(ms) >= unitMs) return WORDS.format(Math.trunc(ms / unitMs), unit);
  }
  return "just now";
}

/** A length of time, in the unit that suits it. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
}
