/** The host of a link; null for what is no link, or leads into this very page: what it does there is not the text's. */
export function hostOf(href: string | undefined): string | null {
  if (!href || href.startsWith("#")) return null;
  try {
    const url = new URL(href, location.href);
    if (url.protocol === "mailto:") return url.pathname;
    return url.protocol === "http:" || url.protocol === "https:" ? url.host : null;
  } catch {
    return null;
  }
}
