/** Numbers as the user's language writes them. */

/** With so many places behind the point, or as many as there are up to some. Of a text no digit is lost. */
export function decimal(value: number | string, places: number, placesMax = places): string {
  const format = new Intl.NumberFormat(undefined, { minimumFractionDigits: places, maximumFractionDigits: placesMax });
  return format.format(value as number);
}

export const count = (value: number | null | undefined): string => decimal(value ?? 0, 0);
