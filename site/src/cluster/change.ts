import { readAgain } from "../server.ts";
import { say, sayError } from "../ui/Toast.tsx";

/** Do what was confirmed: say that it is done, or why not, and read the list again either way. */
export async function change(
  doing: string,
  done: string,
  key: readonly string[],
  deed: () => Promise<unknown>,
): Promise<void> {
  try {
    await deed();
    say(done);
  } catch (error) {
    sayError(doing, error);
  }
  await readAgain(key);
}

/** Words that are separated by commas. */
export const wordsOf = (text: string): string[] =>
  text
    .split(",")
    .map((word) => word.trim())
    .filter((word) => word !== "");
