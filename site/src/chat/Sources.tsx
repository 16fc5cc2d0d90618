import type { Source } from "../client/index.ts";
import { hostOf } from "./links.ts";

/**
 * What the provider found on the web for the text above. A page may call itself anything, so where a link leads is said
 * beside it; and nothing is fetched from there before somebody follows it.
 */
export function Sources({ sources }: { sources: readonly Source[] }) {
  const links = [...new Map(sources.map((source) => [source.url, source])).values()].filter(({ url }) => hostOf(url));
  if (links.length === 0) return null;
  return (
    <ol aria-label="Sources" className="my-2 flex flex-wrap gap-1.5 text-sm">
      {links.map(({ url, title }) => (
        <li key={url} className="max-w-full">
          <a
            href={url}
            target="_blank"
            rel="noopener noreferrer nofollow"
            title={url}
            className="foreign inline-flex min-h-7 max-w-full items-center gap-1.5 rounded-lg border border-line px-2 hover:bg-tint"
          >
            {title && <bdi className="max-w-64 truncate">{title}</bdi>}
            <bdi dir="ltr" className="truncate text-soft">
              {hostOf(url)}
            </bdi>
          </a>
        </li>
      ))}
    </ol>
  );
}
