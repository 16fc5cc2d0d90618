import type { ReactNode } from "react";
import type { Schemas } from "./client/index.ts";
import { INPUT } from "./ui/Field.tsx";
import { costOf, money, tokensOf } from "./ui/money.ts";
import { Empty } from "./ui/Notice.tsx";
import { type Column, Table } from "./ui/Table.tsx";

export type Usage = Schemas["UsageAnswer"];
type Group = Usage["groups"][number];

export const SPANS = { "7": "7 days", "30": "30 days", "90": "90 days", "365": "a year" } as const;

/** The query for the last so many days, of UTC, with today. */
export function usageQuery(days: string, groupBy: string): { from: string; group_by: string } {
  const back = (Number(Object.hasOwn(SPANS, days) ? days : "30") - 1) * 86_400_000;
  return { from: new Date(Date.now() - back).toISOString().slice(0, 10), group_by: groupBy };
}

type PickProps = {
  label: string;
  value: string;
  options: Readonly<Record<string, string>>;
  onChange: (value: string) => void;
};

export function Pick({ label, value, options, onChange }: PickProps) {
  return (
    <select
      aria-label={label}
      className={`${INPUT} !w-auto`}
      value={value}
      onChange={(event) => onChange(event.target.value)}
    >
      {Object.entries(options).map(([name, words]) => (
        <option key={name} value={name}>
          {words}
        </option>
      ))}
    </select>
  );
}

type UsageTableProps = { usage: Usage; heading: string; nameOf: (group: Group) => ReactNode };

/** What models cost in a time: all of it in a line, and by group. */
export function UsageTable({ usage, heading, nameOf }: UsageTableProps) {
  const { total, groups, has_more } = usage;
  if (!groups.length) return <Empty title="Nothing was asked of a model in this time" />;
  const columns: Column<Group>[] = [
    { name: heading, cell: (row) => <span className="foreign block min-w-24">{nameOf(row)}</span> },
    { name: "Asked", cell: (row) => (row.attempts ?? 0).toLocaleString(), isNumber: true },
    { name: "Tokens in", cell: (row) => (row.input_tokens ?? 0).toLocaleString(), isNumber: true },
    { name: "From the cache", cell: (row) => (row.cached_input_tokens ?? 0).toLocaleString(), isNumber: true },
    { name: "Tokens out", cell: (row) => (row.output_tokens ?? 0).toLocaleString(), isNumber: true },
    { name: "Searches", cell: (row) => (row.searches ?? 0).toLocaleString(), isNumber: true },
    { name: "Cost", cell: (row) => money(row.cost_micros), isNumber: true },
    { name: "Of unknown cost", cell: (row) => row.unpriced || "–", isNumber: true },
  ];
  return (
    <>
      <p className="pb-3 text-sm">
        Models were asked {(total.attempts ?? 0).toLocaleString()} times: tokens {tokensOf(total)}; cost {costOf(total)}
        .
      </p>
      <Table
        label={`Usage by ${heading.toLowerCase()}`}
        columns={columns}
        rows={groups}
        rowKey={(row) => row.key ?? ""}
      />
      {has_more && <p className="pt-2 text-sm text-soft">There are more; the sum above is of all.</p>}
    </>
  );
}
