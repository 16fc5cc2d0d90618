import { LoaderCircle, ScrollText } from "lucide-react";
import { Answer } from "./Answer.tsx";
import { textIn } from "./family.ts";
import type { ToolCallProps } from "./ToolCall.tsx";

const WHY: Record<string, string> = {
  manual: "because somebody asked for it",
  threshold: "before the model's context was full",
  overflow: "because it was too long for the model",
};

type Told = { summary: string; why: string; usage: string };

/** What takes the place of a history for the model. Whoever reads has all of it still. */
export default function Summary({ call, answered, isActive = false }: ToolCallProps) {
  const result = answered?.result;
  if (!result && isActive) {
    return (
      <Line>
        <LoaderCircle size={15} aria-hidden className="turning shrink-0" />
        The conversation is being summarised …
      </Line>
    );
  }
  if (!result || result.is_error) return <Line>{result ? textIn(result.content) : "The summary was broken off."}</Line>;
  const { summary, why, usage } = toldOf(textIn(result.content), call.arguments);
  return (
    <details className="my-3 rounded-xl border border-dashed border-line text-sm">
      <summary className="flex min-h-9 items-center gap-2 px-3 py-1.5 text-soft">
        <ScrollText size={15} aria-hidden className="shrink-0" />
        <span className="min-w-0 flex-1">
          Summarised here{why && `, ${why}`}
          {usage}. The model goes on from the summary.
        </span>
      </summary>
      <div className="max-h-96 overflow-y-auto border-t border-line px-3 py-2">
        <Answer text={summary} />
      </div>
    </details>
  );
}

function Line({ children }: { children: React.ReactNode }) {
  return <p className="foreign my-2 flex items-center gap-2 text-sm text-soft">{children}</p>;
}

/** What the result says, whatever it is. */
export function toldOf(json: string, asked: string): Told {
  const fields = { ...fieldsOf(asked), ...fieldsOf(json) };
  const percent = fields.usage_percent;
  return {
    summary: typeof fields.summary === "string" ? fields.summary : json,
    why: WHY[String(fields.source)] ?? "",
    usage: typeof percent === "number" ? `: ${Math.round(percent)} % of the context was in use` : "",
  };
}

function fieldsOf(json: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : {};
  } catch {
    return {};
  }
}
