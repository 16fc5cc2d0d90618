/** Text of programs and of files: whatever is in it, it is read as text, and hides nothing. Pure. */

/** What moves a cursor or sets a colour in a terminal, and titles for its window. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
const TERMINAL = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[ -/]*[0-~])/g;

/**
 * Characters that are not seen, and those that turn the direction of the text: code would read otherwise than it runs.
 * Fillers and selectors are among them, as programs have been hidden in those.
 */
export const UNSEEN =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u115f\u1160\u3164\uffa0]|[\ufe00-\ufe0d]|[\u{e0000}-\u{e0fff}]/gu;

const named = (character: string) =>
  `⟨U+${(character.codePointAt(0) as number).toString(16).toUpperCase().padStart(4, "0")}⟩`;

/** With a name in the place of each character that is not seen. */
export const visible = (text: string): string => text.replace(UNSEEN, named);

/** Of what is not seen these belong to how some languages are written, or to how a line ends. */
export const MEANT = "\r\u200c\u200d";

/** As `visible`, but for what is meant: code that is to be read, and that one may copy. */
export const visibleInCode = (text: string): string =>
  text.replace(UNSEEN, (character) => (MEANT.includes(character) ? character : named(character)));

/** What a terminal would show of a line: behind a carriage return it is written anew. */
const lastWritten = (line: string): string => {
  const written = line.replace(/\r+$/, "");
  return written.slice(written.lastIndexOf("\r") + 1);
};

/** The end of what a program printed, as a terminal would show it in the end. */
export function printed(text: string, charactersMax: number): string {
  const end = text.length > charactersMax ? text.slice(-charactersMax) : text;
  return visible(end.replace(TERMINAL, "").split("\n").map(lastWritten).join("\n"));
}
