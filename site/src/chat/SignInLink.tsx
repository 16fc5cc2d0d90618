import { ExternalLink } from "lucide-react";
import { Fragment } from "react";

/** The address that a replica gives out for signing in at a server of tools. No other is made a link here. */
const SIGN_IN = /https?:\/\/[^\s/]+(\/oauth\/mcp\/sign-in\/[0-9a-f]+)/;

/** What a replica says, with its sign-in addresses as links to this very page's server, whatever host the text names. */
export function WithSignInLink({ text }: { text: string }) {
  return text.split(SIGN_IN).map((piece, at) => {
    const key = `${at}`;
    if (at % 2 === 0) return <Fragment key={key}>{piece}</Fragment>;
    return (
      <a
        key={key}
        href={piece}
        target="_blank"
        rel="noopener noreferrer"
        className="inline-flex items-center gap-1 text-accent underline"
      >
        Sign in
        <ExternalLink size={13} aria-hidden />
      </a>
    );
  });
}
