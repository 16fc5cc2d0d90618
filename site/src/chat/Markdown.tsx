/**
 * Markdown that a model wrote, as a hostile text: no HTML (it is shown as text), no images (fetching one tells its
 * server what the text wants), links to http, https and mailto alone, which say where they lead.
 */

import { type ComponentProps, isValidElement, type ReactElement, type ReactNode } from "react";
import { harden } from "rehype-harden";
import { Streamdown, useIsCodeFenceIncomplete } from "streamdown";
import { visibleInCode } from "../workspace/visible.ts";
import { CodeBlock } from "./CodeBlock.tsx";
import { hostOf } from "./links.ts";

type Pluggables = NonNullable<ComponentProps<typeof Streamdown>["rehypePlugins"]>;

const HARDENED: Pluggables = [
  [
    harden,
    {
      allowedLinkPrefixes: ["*"],
      allowedProtocols: ["http:", "https:", "mailto:"],
      allowedImagePrefixes: [],
      allowDataImages: false,
      linkBlockPolicy: "text-only",
      imageBlockPolicy: "text-only",
    },
  ],
];

const TAGS = "h1 h2 h3 h4 h5 h6 p ul ol li blockquote hr strong em del thead tbody tr th td sup sub section";
const PLAIN = Object.fromEntries(TAGS.split(" ").map((tag) => [tag, tag]));

const COMPONENTS = {
  ...PLAIN,
  a: Anchor,
  img: ({ alt }: { alt?: string }) => <span>{alt || "image"}</span>,
  pre: ({ children }: { children?: ReactNode }) => <Fence>{children}</Fence>,
  code: ({ children, className }: ComponentProps<"code">) => <code className={className}>{children}</code>,
  inlineCode: ({ children }: ComponentProps<"code">) => (
    <bdi>
      <code>{visibleInCode(textIn(children))}</code>
    </bdi>
  ),
  input: ({ checked }: ComponentProps<"input">) => (
    <input type="checkbox" checked={checked ?? false} disabled readOnly aria-label={checked ? "done" : "to do"} />
  ),
  table: ({ children }: ComponentProps<"table">) => (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard
    <div className="table-wrap" tabIndex={0}>
      <table>{children}</table>
    </div>
  ),
} as ComponentProps<typeof Streamdown>["components"];

type MarkdownProps = { text: string; isStreaming: boolean };

export default function Markdown({ text, isStreaming }: MarkdownProps) {
  return (
    <Streamdown
      mode={isStreaming ? "streaming" : "static"}
      parseIncompleteMarkdown={isStreaming}
      rehypePlugins={HARDENED}
      components={COMPONENTS}
      controls={false}
      dir="auto"
      className="prose"
    >
      {text}
    </Streamdown>
  );
}

function Fence({ children }: { children: ReactNode }) {
  const isIncomplete = useIsCodeFenceIncomplete();
  const code = isValidElement(children) ? (children as ReactElement<ComponentProps<"code">>).props : null;
  const language = /language-(\S+)/.exec(code?.className ?? "")?.[1] ?? "";
  const text = textIn(code?.children ?? children).replace(/\n$/, "");
  return <CodeBlock code={text} language={language} isIncomplete={isIncomplete} />;
}

function textIn(node: ReactNode): string {
  if (typeof node === "string" || typeof node === "number") return String(node);
  return Array.isArray(node) ? node.map(textIn).join("") : "";
}

/**
 * A link whose words may say anything: its host is shown, unless the words are the address itself. What reads in its
 * order, whatever characters before it turn text around, as `moc.knab` would be another's host.
 */
function Anchor({ href, children }: ComponentProps<"a">) {
  const host = hostOf(href);
  if (!href || !host) return <span>{children}</span>;
  const words = textIn(children);
  return (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow" title={href}>
      <bdi>{children}</bdi>
      {!saysItself(words, href, host) && (
        <>
          {" "}
          <bdi dir="ltr" className="text-[0.88em] text-soft">
            ({host})
          </bdi>
        </>
      )}
    </a>
  );
}

const bare = (address: string) => address.replace(/^https?:\/\//, "").replace(/\/$/, "");

/** What stands before an `@`, or is spelled with letters that look like others, is not where the link leads. */
function saysItself(words: string, href: string, host: string): boolean {
  return words === host || (bare(words) === bare(href) && bare(words).startsWith(host));
}
