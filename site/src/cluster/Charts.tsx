import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { api } from "../server.ts";
import { INPUT } from "../ui/Field.tsx";
import { count, decimal } from "../ui/numbers.ts";
import { duration } from "../ui/Time.tsx";
import { Chart } from "./Chart.tsx";
import { Panel, useRefresh } from "./Panel.tsx";
import { useFilters } from "./useFilters.ts";

type Point = {
  at: string;
  turns: number;
  failed: number;
  interrupted: number;
  output_tokens: number;
  tokens_per_second: number;
  first_token_p50_ms: number | null;
  first_token_p95_ms: number | null;
  takeovers: number;
};
type Series = { step_seconds: number; points: Point[] };

const EVERY_MS = 10_000;
const SPANS = { "15m": "15 minutes", "1h": "1 hour", "6h": "6 hours", "1d": "1 day", "7d": "7 days" } as const;

const rate = (value: number) => `${value < 10 ? decimal(value, 1) : count(value)}/s`;

/** How much the cluster did, and how fast. */
export function Charts() {
  const [filters, change] = useFilters(["span"]);
  const span = Object.hasOwn(SPANS, filters.span) ? filters.span : "1h";
  const refresh = useRefresh(EVERY_MS);
  const query = useQuery({
    queryKey: ["series", span],
    queryFn: ({ signal }) => api.get<Series>("/admin/series", { span }, signal),
    refetchInterval: refresh.everyMs,
    placeholderData: keepPreviousData,
  });
  const choice = (
    <select
      aria-label="Time"
      className={`${INPUT} !w-auto`}
      value={span}
      onChange={(event) => change("span", event.target.value)}
    >
      {Object.entries(SPANS).map(([name, words]) => (
        <option key={name} value={name}>
          {words}
        </option>
      ))}
    </select>
  );
  return (
    <Panel title="Charts" what="charts" query={query} refresh={refresh} actions={choice} freshMs={2 * EVERY_MS}>
      {({ points, step_seconds }) => <Drawn points={points} stepSeconds={step_seconds} />}
    </Panel>
  );
}

function Drawn({ points, stepSeconds }: { points: readonly Point[]; stepSeconds: number }) {
  const at = points.map((point) => Date.parse(point.at));
  const each = stepSeconds === 60 ? "a minute" : duration(stepSeconds * 1000);
  const values = (name: keyof Omit<Point, "at">) => points.map((point) => point[name]);
  return (
    <div className="grid gap-3 lg:grid-cols-2">
      <Chart
        title={`Turns (each ${each})`}
        at={at}
        kind="bars"
        words={count}
        tracks={[
          { name: "ended", values: values("turns"), look: "main" },
          { name: "failed", values: values("failed"), look: "bad" },
        ]}
      />
      <Chart
        title="Time to the first token"
        at={at}
        kind="line"
        words={duration}
        tracks={[
          { name: "median", values: values("first_token_p50_ms"), look: "main" },
          { name: "95 %", values: values("first_token_p95_ms"), look: "second" },
        ]}
      />
      <Chart
        title="Tokens of answers"
        at={at}
        kind="line"
        words={rate}
        tracks={[{ name: "tokens", values: values("tokens_per_second"), look: "main" }]}
      />
      <Chart
        title={`Takeovers (each ${each})`}
        at={at}
        kind="bars"
        words={count}
        tracks={[{ name: "replica lost", values: values("takeovers"), look: "bad" }]}
      />
    </div>
  );
}
