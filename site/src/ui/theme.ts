/** Light, dark, or what the system says. Kept in this browser. */

export type Theme = "system" | "light" | "dark";

const KEY = "chatcluster.theme";

export function theme(): Theme {
  const kept = localStorage.getItem(KEY);
  return kept === "light" || kept === "dark" ? kept : "system";
}

export function setTheme(value: Theme): void {
  localStorage.setItem(KEY, value);
  showTheme();
}

export function showTheme(): void {
  const value = theme();
  if (value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
}
