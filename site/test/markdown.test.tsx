import { render } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { isMarkdown } from "../src/chat/Answer.tsx";
import Markdown from "../src/chat/Markdown.tsx";

const shown = (text: string, isStreaming = false) =>
  render(<Markdown text={text} isStreaming={isStreaming} />).container;

describe("hostile Markdown is inert", () => {
  test.each([
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)><animate onbegin=alert(1)/></svg>",
    "<iframe src=https://evil.example></iframe>",
    "<style>*{display:none}</style>",
    "<a href=javascript:alert(1)>x</a>",
    "<form action=https://evil.example><input name=x></form>",
    "a <b onclick=alert(1)>b</b> c",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<svg><foreignObject><iframe src=javascript:alert(1)>",
    "<!-- --!><img src=x onerror=alert(1)> -->",
    "<object data=data:text/html,x><embed src=x><base href=//evil.example>",
  ])("HTML is text: %s", (text) => {
    for (const isStreaming of [false, true]) {
      const page = shown(text, isStreaming);
      expect(page.querySelector("script,img,svg animate,iframe,style,form,[onclick],[onload],[onerror]")).toBeNull();
      expect(page.querySelector("a[href^=javascript]")).toBeNull();
    }
    expect(shown(text).textContent).toContain(text.slice(0, 4));
  });

  test.each(["https://evil.example/?q=secret", "data:image/png;base64,AAAA", "/api/v1/me", "//evil.example/x.png"])(
    "no image is fetched: %s",
    (src) => {
      expect(shown(`![words](${src})`).querySelector("img, [src]")).toBeNull();
      expect(shown(`![words][1]\n\n[1]: ${src}`).querySelector("img, [src]")).toBeNull();
    },
  );

  test.each([
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "&#106;avascript:alert(1)",
    "javascript&colon;alert(1)",
    "&#1;javascript:alert(1)",
    "\u2066javascript:alert(1)",
    "java&NewLine;script:alert(1)",
    "view-source:https://evil.example",
    "intent://evil.example#Intent;scheme=http;end",
    "data:text/html,x",
    "vbscript:x",
    "blob:x",
    "file:///etc/passwd",
  ])("a link to %s is none", (href) => {
    const links = [...shown(`[words](<${href}>)`).querySelectorAll("a")];
    expect(links.map((link) => link.protocol).filter((name) => !["http:", "https:"].includes(name))).toEqual([]);
  });
});

describe("a link", () => {
  test.each(["#code=abc", "#", "#top"])("into this very page is its words alone: %s", (href) => {
    const page = shown(`[words](${href})`);
    expect(page.querySelector("a")).toBeNull();
    expect(page.textContent).toBe("words");
  });

  test.each(["\u202E[words](https://bank.example)", "[\u202Ewords](https://bank.example)"])(
    "says where it leads in the order of the address, whatever turns the text around: %s",
    (text) => {
      const told = [...shown(text).querySelectorAll("a bdi")].at(-1);
      expect(told?.textContent).toBe("(bank.example)");
      expect(told?.getAttribute("dir")).toBe("ltr");
    },
  );

  test("an address that follows what turns the text around is not turned", () => {
    expect(shown("\u202Ehttps://bank.example").querySelector("a > bdi")?.textContent).toBe("https://bank.example");
  });

  test("says where it leads, and tells that place nothing", () => {
    const link = shown("[my bank](https://evil.example/login)").querySelector("a");
    expect(link?.textContent).toBe("my bank (evil.example)");
    expect(link?.getAttribute("rel")).toBe("noopener noreferrer nofollow");
    expect(link?.getAttribute("target")).toBe("_blank");
  });

  test("whose words are its address is not told twice", () => {
    expect(shown("https://good.example/a").querySelector("a")?.textContent).toBe("https://good.example/a");
  });

  test.each([
    ["https://good.example@evil.example/", "evil.example"],
    ["https://xn--pple-43d.example@evil.example/a", "evil.example"],
    ["https://\u0430pple.example/", "xn--pple-43d.example"],
  ])("whose address looks like another one says its host: %s", (address, host) => {
    expect(shown(`[${address}](${address})`).textContent).toContain(`(${host})`);
  });

  test("whose words are another host is shown with its own", () => {
    expect(shown("[good.example](https://evil.example)").textContent).toContain("(evil.example)");
    expect(shown("[evil.example.good.example](https://evil.example)").textContent).toContain("(evil.example)");
  });
});

describe("code", () => {
  test("hides nothing, and is not turned around by what stands before it", () => {
    const block = shown("```js\nif (a != 'u\u202E \u2066// ok\u2069 \u2066') b();\n```").querySelector("pre");
    expect(block?.textContent).toContain("'u⟨U+202E⟩ ⟨U+2066⟩// ok⟨U+2069⟩ ⟨U+2066⟩'");
    const word = shown("\u202Erun `rm\u200B -rf`").querySelector("bdi > code");
    expect(word?.textContent).toBe("rm⟨U+200B⟩ -rf");
  });

  test("keeps the joiners that languages and pictures are written with", () => {
    expect(shown("`می\u200cخواهم 👩\u200d🚀`").querySelector("code")?.textContent).toBe("می\u200cخواهم 👩\u200d🚀");
  });
});

describe("what models write", () => {
  test("is shown: headings, lists, tables, code, emphasis", () => {
    const page = shown(
      "# A\n\n- b\n- [x] c\n\n| d | e |\n|---|---|\n| f | g |\n\n```python\nh = 1\n```\n\n**i** ~~j~~ `k`",
    );
    for (const tag of ["h1", "li", "td", "pre code", "strong", "del", "code"])
      expect(page.querySelector(tag), tag).not.toBeNull();
    expect(page.querySelector("pre")?.textContent).toBe("h = 1");
  });

  test("half of it is shown whole as it grows", () => {
    expect(shown("Some **bol", true).querySelector("strong")?.textContent).toBe("bol");
    expect(shown("```js\nlet a", true).querySelector("pre")?.textContent).toContain("let a");
  });

  test("survives deep nesting and long lines", () => {
    expect(shown(`${">".repeat(300)} deep`).textContent).toContain("deep");
    expect(shown("x".repeat(50_000)).textContent).toHaveLength(50_000);
  });
});

describe("what would hold the page up is no Markdown, and is shown as it is", () => {
  test.each([
    ["marks without end in one line", "_a*".repeat(2000)],
    ["marks without end in one paragraph", "_a*\n".repeat(2000)],
    ["and behind what continues it", `x\n${"    - _a*\n".repeat(2000)}`],
    ["and in a quote", "> _a*\n".repeat(2000)],
    ["ends of links without a beginning", "](".repeat(8000)],
    ["images within each other", "![a](".repeat(4000)],
    ["links that do not end", "[a](<b".repeat(4000)],
    ["runs of ticks of every length", Array.from({ length: 200 }, (_, at) => "`".repeat(at)).join("a")],
    ["and behind code that has ended", `~~~\nx\n   ~~~\n${"_a*".repeat(2000)}`],
    ["behind what only looks as if it ended code", `\`\`\`\`\n\`\`\`\n\`\`\`\`\n${"_a*".repeat(2000)}`],
    ["behind code whose lines end otherwise", `~~~\rx\r~~~\r${"_a*".repeat(2000)}`],
    ["behind what would be code, were it not in a comment", `<!--\n~~~\n-->\n${"_a*".repeat(2000)}\n~~~`],
    ["behind code that ends with its list", `- a\n  ~~~\n${"_a*".repeat(2000)}`],
    ["an endless line", `x\n${"y".repeat(61_000)}`],
    ["quotes without end", "> ".repeat(60)],
  ])("%s", (_, text) => expect(isMarkdown(text)).toBe(false));

  test.each([
    ["a long list", "- **a** `b` [c](https://d.example)\n".repeat(2000)],
    ["many paragraphs", "An **answer** of _words_.\n\n".repeat(3000)],
    ["long code", "let a_b = c_d;\n".repeat(1400)],
    ["long data", `\`\`\`json\n${'{"user_id": [1, 2], "is_new": false},\n'.repeat(4000)}\`\`\``],
    ["a long table", `|a|b|\n|-|-|\n${"| `x` | [y](https://d.example) |\n".repeat(1500)}`],
  ])("but not %s", (_, text) => expect(isMarkdown(text)).toBe(true));
});

describe("each block runs in the direction of its words", () => {
  test.each([false, true])("while it is written: %s", (isStreaming) => {
    const page = shown(
      "Latin words.\n\nשלום עולם, with `code`!\n\n- مرحبا بالعالم\n\n```js\n// שלום\n```",
      isStreaming,
    );
    const directionOf = (tag: string, words: string) =>
      [...page.querySelectorAll(tag)].find(({ textContent }) => textContent?.includes(words))?.closest("[dir]");
    expect(directionOf("p", "Latin")?.getAttribute("dir") ?? "ltr").toBe("ltr");
    expect(directionOf("p", "שלום")?.getAttribute("dir")).toBe("rtl");
    expect(directionOf("li", "مرحبا")?.getAttribute("dir")).toBe("rtl");
    expect(directionOf("pre", "שלום")?.getAttribute("dir")).toBe("ltr");
  });
});
