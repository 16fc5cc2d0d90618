import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { attemptKey } from "../src/chat/drafts.ts";
import { api, queries } from "../src/server.ts";
import { endSessionWhenRefused, readSession, signOut } from "../src/session.ts";
import { refused } from "./server.ts";

const ANN = { user_id: "1", name: "ann", admin: false };
const EVE = { user_id: "2", name: "eve", admin: false };

let calls: string[];
let answers: Record<string, () => Response>;

beforeEach(() => {
  calls = [];
  answers = {};
  location.hash = "";
  localStorage.clear();
  vi.stubGlobal("fetch", async (path: string, init: RequestInit) => {
    const call = `${init.method} ${path.replace(/^.*\/api\/v1/, "")}`;
    calls.push(call);
    return answers[call]?.() ?? refused(401, "invalid_session");
  });
});

afterEach(() => {
  vi.unstubAllGlobals();
  queries.clear();
});

const answered = (session: object) => () => new Response(JSON.stringify(session));

describe("a link with a code", () => {
  test("signs in where nobody is, and leaves nothing in the address", async () => {
    answers["POST /session"] = answered(EVE);
    location.hash = "#code=abc";
    expect(await readSession()).toEqual(EVE);
    expect(location.hash).toBe("");
  });

  test("does not take the place of the one who is signed in, now or later", async () => {
    answers = { "GET /session": answered(ANN), "POST /session": answered(EVE) };
    location.hash = "#code=abc";
    expect(await readSession()).toEqual(ANN);
    expect(location.hash).toBe("");
    delete answers["GET /session"];
    expect(await readSession()).toBeNull();
    expect(calls).not.toContain("POST /session");
  });

  test("that was used before leads to the sign-in", async () => {
    location.hash = "#code=used";
    expect(await readSession()).toBeNull();
  });

  test("is tried again if the server could not be asked", async () => {
    location.hash = "#code=abc";
    answers["GET /session"] = () => refused(503, "unavailable");
    await expect(readSession()).rejects.toMatchObject({ status: 503 });
    answers = { "POST /session": answered(EVE) };
    expect(await readSession()).toEqual(EVE);
  });
});

test("a write that is answered 401 ends the session", async () => {
  const stop = endSessionWhenRefused();
  queries.setQueryData(["session"], ANN);
  queries.setQueryData(["chats"], "hers");
  await expect(api.patch("/chats/a", {})).rejects.toMatchObject({ status: 401 });
  stop();
  expect(queries.getQueryData(["session"])).toBeNull();
  expect(queries.getQueryData(["chats"])).toBeUndefined();
});

test("signing out leaves nothing of what was written and seen", async () => {
  answers["DELETE /session"] = () => new Response(null, { status: 204 });
  localStorage.setItem("chatcluster.draft.a", "secret");
  localStorage.setItem("chatcluster.seen", '{"a":1}');
  localStorage.setItem("chatcluster.other", "kept");
  const key = attemptKey("a", "secret");
  await signOut();
  expect({ ...localStorage }).toEqual({ "chatcluster.other": "kept" });
  expect(attemptKey("a", "secret")).not.toBe(key);
});
