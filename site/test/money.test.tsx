import { render, screen } from "@testing-library/react";
import { afterEach, describe, expect, test } from "vitest";
import Limit from "../src/chat/Limit.tsx";
import { ApiError } from "../src/client/index.ts";
import { usageQuery } from "../src/UsageTable.tsx";
import { costOf, money, tokensOf } from "../src/ui/money.ts";
import { duration } from "../src/ui/Time.tsx";
import { refused, Server } from "./server.ts";

const { NumberFormat } = Intl;
class German extends NumberFormat {
  constructor(_: unknown, how?: Intl.NumberFormatOptions) {
    super("de", how);
  }
}

afterEach(() => void Object.assign(Intl, { NumberFormat }));

describe("an amount of money", () => {
  test.each([
    [0, "0.00"],
    [1, "0.000001"],
    [12_300, "0.0123"],
    [1_500_000, "1.50"],
    [2_000_000_000_000, "2,000,000.00"],
    [-250_000, "-0.25"],
    [null, "–"],
  ])("of %s micros is read as %s", (micros, words) => expect(money(micros)).toBe(words));

  test("is written as the user's language writes numbers, with all its places", () => {
    Object.assign(Intl, { NumberFormat: German });
    expect([money(1_234_500_000), money(12_300), duration(1500)]).toEqual(["1.234,50", "0,0123", "1,5 s"]);
  });

  test("of which some is not known says so", () => {
    expect(costOf({ cost_micros: 500_000, attempts: 3, unpriced: 1 })).toBe(
      "0.50, and 1 of 3 attempts of unknown cost",
    );
    expect(costOf({ cost_micros: null, attempts: 2 })).toContain("not known");
    expect(costOf({})).toBe("nothing yet");
  });

  test("has its tokens, with what came from the cache and what was thought, and its searches", () => {
    expect(tokensOf({ input_tokens: 1234, cached_input_tokens: 1000, output_tokens: 5, reasoning_tokens: null })).toBe(
      "1,234 in (1,000 from the cache), 5 out",
    );
    expect(tokensOf({ input_tokens: 1, output_tokens: 2, searches: 1 })).toBe("1 in, 2 out, 1 search of the web");
    expect(tokensOf({ input_tokens: 1, output_tokens: 2, searches: 3 })).toBe("1 in, 2 out, 3 searches of the web");
  });
});

test("usage is asked for from the first day on, of UTC, and of no number of days that is none", () => {
  const today = new Date().toISOString().slice(0, 10);
  expect(usageQuery("7", "day").from < today).toBe(true);
  expect(usageQuery("1e99", "day")).toEqual(usageQuery("30", "day"));
});

describe("a limit that is reached", () => {
  const error = (details: object) =>
    new ApiError(409, "usage_limit_exceeded", "the limit is reached", null, { ...details });

  test("says how much was spent, of what, and when there is more", () => {
    const later = new Date(Date.now() + 3 * 86_400_000).toISOString();
    render(
      <Limit error={error({ kind: "cost_micros", period: "month", limit: 20e6, spent: 20.5e6, resets_at: later })} />,
    );
    const words = screen.getByRole("alert").textContent;
    expect(words).toContain("what you may spend this month: 20.50 of 20.00.");
    expect(words).toMatch(/There is room again in [23]\s?d/);
  });

  test("in tokens counts them", () => {
    render(<Limit error={error({ kind: "tokens", period: "day", limit: 1000, spent: 1000 })} />);
    expect(screen.getByRole("alert").textContent).toContain("today: 1,000 tokens of 1,000 tokens");
  });

  test("of which the server says nothing more is told in its words", () => {
    render(<Limit error={error({})} />);
    expect(screen.getByRole("alert").textContent).toBe("the limit is reached");
  });

  test("comes with all that the server says", async () => {
    const server = new Server();
    const body = { error: { code: "usage_limit_exceeded", message: "m", limit: 5, kind: "tokens" } };
    server.answers.set("POST /chats", () => new Response(JSON.stringify(body), { status: 409 }));
    server.answers.set("GET /me", () => refused(404, "not_found"));
    await expect(server.api.post("/chats", {})).rejects.toMatchObject({ details: { limit: 5, kind: "tokens" } });
    await expect(server.api.get("/me")).rejects.toMatchObject({ details: {} });
  });
});
