import { useId } from "react";

/** One line or row of bars; `null` where there is nothing to tell. */
export type Track = { name: string; values: readonly (number | null)[]; look: "main" | "second" | "bad" };

type ChartProps = {
  title: string;
  /** When each step begins, in milliseconds. */
  at: readonly number[];
  tracks: readonly Track[];
  kind: "line" | "bars";
  words: (value: number) => string;
};

const WIDTH = 400;
const HEIGHT = 120;
const COLOURS = { main: "var(--color-accent)", second: "var(--color-warn)", bad: "var(--color-bad)" } as const;

/** A small chart: what it shows is told in words as well, for those who do not see it. */
export function Chart({ title, at, tracks, kind, words }: ChartProps) {
  const heading = useId();
  const all = tracks.flatMap(({ values }) => values.filter((value) => value !== null));
  const top = Math.max(...all, 0);
  return (
    <figure aria-labelledby={heading} className="flex flex-col gap-1 rounded-xl border border-line p-3">
      <figcaption className="text-sm">
        <span id={heading} className="block font-semibold">
          {title}
        </span>
        <span className="flex flex-wrap gap-x-4">
          {tracks.map((track) => (
            <span key={track.name} className="flex items-center gap-1.5 whitespace-nowrap text-xs text-soft">
              <svg width="10" height="10" aria-hidden>
                <rect width="10" height="10" rx="2" fill={COLOURS[track.look]} />
              </svg>
              {track.name}: {told(track, words)}
            </span>
          ))}
        </span>
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" className="mt-auto h-32 w-full" aria-hidden>
        <line x1="0" x2={WIDTH} y1={HEIGHT - 0.5} y2={HEIGHT - 0.5} stroke="var(--color-line)" />
        <line x1="0" x2={WIDTH} y1="0.5" y2="0.5" stroke="var(--color-line)" strokeDasharray="2 4" />
        {top > 0 &&
          tracks.map((track) =>
            kind === "bars" ? (
              <Bars key={track.name} track={track} top={top} at={at} words={words} />
            ) : (
              <Line key={track.name} track={track} top={top} />
            ),
          )}
      </svg>
      <div className="flex justify-between text-xs text-soft tabular-nums">
        <span>{clock(at[0])}</span>
        <span>{top > 0 ? `at most ${words(top)}` : "nothing in this time"}</span>
        <span>{clock(at.at(-1))}</span>
      </div>
    </figure>
  );
}

/** The last value there is. */
function told({ values }: Track, words: (value: number) => string): string {
  const last = values.findLast((value) => value !== null);
  return last === undefined || last === null ? "–" : words(last);
}

type DrawnProps = { track: Track; top: number };

function Bars({ track, top, at, words }: DrawnProps & Pick<ChartProps, "at" | "words">) {
  const width = WIDTH / track.values.length;
  return track.values.map((value, step) => {
    if (!value) return null;
    const height = (value / top) * (HEIGHT - 4);
    const x = step * width + width * 0.1;
    return (
      <rect key={at[step]} x={x} y={HEIGHT - height} width={width * 0.8} height={height} fill={COLOURS[track.look]}>
        <title>{`${clock(at[step])}: ${words(value)}`}</title>
      </rect>
    );
  });
}

/** A line that is broken where there is nothing to tell; a step alone is a dot. */
function Line({ track, top }: DrawnProps) {
  const last = Math.max(1, track.values.length - 1);
  const point = (value: number, step: number) =>
    `${((step / last) * WIDTH).toFixed(1)} ${(HEIGHT - 2 - (value / top) * (HEIGHT - 6)).toFixed(1)}`;
  let path = "";
  let isOn = false;
  for (const [step, value] of track.values.entries()) {
    if (value !== null) path += isOn ? `L${point(value, step)}` : `M${point(value, step)}h0.1`;
    isOn = value !== null;
  }
  return (
    <path
      d={path}
      fill="none"
      stroke={COLOURS[track.look]}
      strokeWidth="2"
      strokeLinecap="round"
      vectorEffect="non-scaling-stroke"
    />
  );
}

function clock(ms: number | undefined): string {
  if (ms === undefined) return "";
  const isToday = Date.now() - ms < 86_400_000;
  return new Date(ms).toLocaleString(undefined, {
    ...(!isToday && { day: "numeric", month: "short" }),
    hour: "2-digit",
    minute: "2-digit",
  });
}
