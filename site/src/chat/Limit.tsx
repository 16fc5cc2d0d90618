import type { ApiError } from "../client/index.ts";
import { money } from "../ui/money.ts";
import { Notice } from "../ui/Notice.tsx";
import { Time } from "../ui/Time.tsx";

const PERIODS: Record<string, string> = { day: "today", week: "this week", month: "this month" };

/** That one has spent what there is, how much that was, and when there is more. */
export default function Limit({ error }: { error: ApiError }) {
  const { kind, period, limit, spent, resets_at } = error.details;
  if (typeof limit !== "number" || typeof spent !== "number") {
    return (
      <Notice tone="warn" role="alert">
        {error.message}
      </Notice>
    );
  }
  const amount = (value: number) => (kind === "tokens" ? `${value.toLocaleString()} tokens` : money(value));
  return (
    <Notice tone="warn" role="alert">
      You have used up what you may spend {PERIODS[String(period)] ?? "for now"}: {amount(spent)} of {amount(limit)}.{" "}
      Nothing was sent.
      {typeof resets_at === "string" && (
        <>
          {" "}
          There is room again <Time at={resets_at} isAhead />.
        </>
      )}
    </Notice>
  );
}
