import { Component, memo, type ReactNode, useEffect, useRef, useState } from "react";
import { later } from "../ui/later.tsx";

const Markdown = later(async () => (await import("./Markdown.tsx")).default);

// Whoever opens a chat reads answers.
void Markdown.load();

/** Markdown of more than this is shown as plain text: taking it apart would hold the page up. */
const MARKDOWN_MAX = 400_000;
const LINE_MAX = 60_000;
/** Quotes and lists within each other, deeper than any that one reads. Each level costs more than the one before. */
const TOO_DEEP = /^(?:[ \t]*(?:>|(?:[*+-]|\d{1,9}[.)])[ \t])){50}/m;
const INDENTED_TOO_DEEP = /^[ \t]{200}/m;

/** What stands in pairs looks for its other half in all of a paragraph: ten times as many take a hundred times as long. */
const PAIRED: readonly (readonly [mark: RegExp, max: number])[] = [
  [/[*_]/g, 3000],
  [/[[\]]/g, 6000],
  [/`/g, 10_000],
];
const PARAGRAPH = /\n {0,3}(?:[ \t\r]*\n|[-*+][ \t]|#{1,6}[ \t])/;

type AnswerProps = { text: string; isStreaming?: boolean };

/** Text that a model wrote. What is long grows in steps that are the longer the more there is of it. */
export function Answer({ text, isStreaming = false }: AnswerProps) {
  return <Shown text={usePaced(text, isStreaming)} isStreaming={isStreaming} />;
}

/** Up to here every frame shows what there is. */
const PACED_FROM = 4000;
const PACED_CHARS_PER_MS = 200;

/** A text that grows, as it was a moment ago: to take 40 kB of Markdown apart sixty times a second leaves time for nothing. */
function usePaced(text: string, isStreaming: boolean): string {
  const [shown, show] = useState(text);
  const latest = useRef(text);
  const pending = useRef<ReturnType<typeof setTimeout>>(undefined);
  latest.current = text;
  const isPaced = isStreaming && text.length > PACED_FROM && text.startsWith(shown);
  useEffect(() => {
    if (!isPaced || shown === text || pending.current !== undefined) return;
    pending.current = setTimeout(() => {
      pending.current = undefined;
      show(latest.current);
    }, text.length / PACED_CHARS_PER_MS);
  }, [isPaced, shown, text]);
  useEffect(() => () => clearTimeout(pending.current), []);
  return isPaced && shown.length > 0 ? shown : text;
}

/** Until Markdown is loaded, and where it is too long for it, the text as it is. */
const Shown = memo(function Shown({ text, isStreaming = false }: AnswerProps) {
  const plain = <div className="foreign whitespace-pre-wrap">{text}</div>;
  if (!isMarkdown(text)) return plain;
  return (
    <Otherwise shown={plain} of={text}>
      <Markdown text={text} isStreaming={isStreaming} meanwhile={plain} />
    </Otherwise>
  );
});

/** Whether it can be taken apart as Markdown without holding the page up. */
export const isMarkdown = (text: string): boolean =>
  text.length <= MARKDOWN_MAX && !hasEndlessLine(text) && !isTooDeep(text) && !isTangled(text);

const isTangled = (text: string) =>
  text.length > TANGLED_MIN &&
  withoutCode(text)
    .split(PARAGRAPH)
    .some((piece) => PAIRED.some(isOver(piece)));

const TANGLED_MIN = 3000;

const isOver =
  (piece: string) =>
  ([mark, max]: readonly [RegExp, number]): boolean =>
    piece.length > max && (piece.match(mark)?.length ?? 0) > max;

const OPENS = /^(`{3,}(?=[^`]*$)|~{3,})/;
const CLOSES = /^ {0,3}(`{3,}|~{3,})[ \t]*$/;
const IS_HTML = /^ {0,3}</;

/**
 * Without blocks of code, in which nothing is a mark. It leaves out what is one for sure: of what is indented, or stands behind
 * HTML, that is not said here.
 */
function withoutCode(text: string): string {
  let fence = "";
  let isSure = true;
  const isProse = (line: string): boolean => {
    if (fence) {
      if (CLOSES.exec(line)?.[1]?.startsWith(fence)) fence = "";
      return false;
    }
    isSure &&= !IS_HTML.test(line);
    if (isSure) fence = OPENS.exec(line)?.[1] ?? "";
    return fence === "";
  };
  return text
    .split(/\r\n|\r|\n/)
    .filter(isProse)
    .join("\n");
}

const isTooDeep = (text: string) => TOO_DEEP.test(text) || INDENTED_TOO_DEEP.test(text);

function hasEndlessLine(text: string): boolean {
  if (text.length <= LINE_MAX) return false;
  return text.split("\n").some((line) => line.length > LINE_MAX);
}

type OtherwiseProps = { shown: ReactNode; of: string; children: ReactNode };

/** What is shown when the children cannot be: nested without end, say, or a file of the page that is not there. */
class Otherwise extends Component<OtherwiseProps, { hasFailed: boolean }> {
  override state = { hasFailed: false };

  static getDerivedStateFromError() {
    return { hasFailed: true };
  }

  override componentDidUpdate(before: OtherwiseProps): void {
    if (this.state.hasFailed && before.of !== this.props.of) this.setState({ hasFailed: false });
  }

  override render(): ReactNode {
    return this.state.hasFailed ? this.props.shown : this.props.children;
  }
}
