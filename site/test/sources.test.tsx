import { render, screen } from "@testing-library/react";
import { describe, expect, test } from "vitest";
import { Sources } from "../src/chat/Sources.tsx";

const source = (url: string, title?: string) => ({ type: "source" as const, url, ...(title && { title }) });

describe("what an answer cites", () => {
  test("is a link that says where it leads, and is opened apart", () => {
    render(<Sources sources={[source("https://lakes.example/a?b=1", "bank.example")]} />);
    const link = screen.getByRole("link");
    expect(link.textContent).toBe("bank.examplelakes.example");
    expect(link.getAttribute("href")).toBe("https://lakes.example/a?b=1");
    expect(link.getAttribute("rel")).toBe("noopener noreferrer nofollow");
    expect(link.getAttribute("target")).toBe("_blank");
  });

  test("is there once, and nothing that is no address of the web", () => {
    const lakes = source("https://lakes.example/", "Lakes");
    render(<Sources sources={[lakes, source("javascript:alert(1)", "x"), lakes, source("https://b.example/")]} />);
    expect(screen.getAllByRole("link").map((link) => link.textContent)).toEqual(["Lakeslakes.example", "b.example"]);
  });

  test("is no empty list", () => {
    render(<Sources sources={[source("data:text/html,x")]} />);
    expect(screen.queryByRole("list")).toBeNull();
  });
});
