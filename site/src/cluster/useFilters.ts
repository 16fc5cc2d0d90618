import { useLocation, useSearch } from "wouter";

/** Filters that live in the address, so that a link leads to what was seen. */
export function useFilters<Name extends string>(
  names: readonly Name[],
): [Record<Name, string>, (name: Name, value: string) => void] {
  const search = new URLSearchParams(useSearch());
  const [location, navigate] = useLocation();
  const values = Object.fromEntries(names.map((name) => [name, search.get(name) ?? ""])) as Record<Name, string>;
  const change = (name: Name, value: string) => {
    if (value) search.set(name, value);
    else search.delete(name);
    navigate(search.size ? `${location}?${search}` : location, { replace: true });
  };
  return [values, change];
}
