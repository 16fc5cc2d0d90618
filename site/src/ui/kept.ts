/**
 * What this browser keeps for the page, by name. Its storage may be full or forbidden: then it is kept as long as the page is
 * open, and nothing else goes wrong.
 */

const PREFIX = "chatcluster.";

/** What the storage did not take. It is later than what the storage has. */
const untaken = new Map<string, string>();

export function kept(name: string): string {
  const later = untaken.get(name);
  if (later !== undefined) return later;
  try {
    return localStorage.getItem(PREFIX + name) ?? "";
  } catch {
    return "";
  }
}

/** Nothing is kept of an empty text. */
export function keep(name: string, text: string): void {
  untaken.delete(name);
  try {
    if (text) localStorage.setItem(PREFIX + name, text);
    else localStorage.removeItem(PREFIX + name);
  } catch {
    untaken.set(name, text);
  }
}

/** Everything whose name begins so. */
export function forgetKept(beginning: string): void {
  for (const name of untaken.keys()) if (name.startsWith(beginning)) untaken.delete(name);
  try {
    const names = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX + beginning));
    for (const name of names) localStorage.removeItem(name);
  } catch {
    // there is nothing
  }
}

/** Tell other tabs something, of which nothing stays. They hear it as what is kept under this name, for a moment. */
export function tellElsewhere(name: string, text: string): void {
  keep(name, text);
  keep(name, "");
}

export type Change = { from: string; to: string };

/** Hear of what another tab keeps under this name. Returns how to stop that. */
export function onKeptElsewhere(name: string, tell: (change: Change) => void): () => void {
  const listen = ({ key, oldValue, newValue }: StorageEvent) => {
    if (key !== PREFIX + name) return;
    untaken.delete(name);
    tell({ from: oldValue ?? "", to: newValue ?? "" });
  };
  window.addEventListener("storage", listen);
  return () => window.removeEventListener("storage", listen);
}
