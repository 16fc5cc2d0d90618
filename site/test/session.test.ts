import { render, screen } from "@testing-library/react";
import { createElement } from "react";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { attemptKey } from "../src/chat/drafts.ts";
import { api, queries } from "../src/server.ts";
import {
  endSessionWhenRefused,
  followLinks,
  followOtherTabs,
  readSession,
  sessionHasEnded,
  signIn,
  signOut,
} from "../src/session.ts";
import { Toasts } from "../src/ui/Toast.tsx";
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
    render(createElement(Toasts));
    expect(screen.getByRole("alert").textContent).toContain("used before, or has expired");
  });

  test("is tried again if the server could not be asked", async () => {
    location.hash = "#code=abc";
    answers["GET /session"] = () => refused(503, "unavailable");
    await expect(readSession()).rejects.toMatchObject({ status: 503 });
    answers = { "POST /session": answered(EVE) };
    expect(await readSession()).toEqual(EVE);
  });
});

describe("a link that is opened where the page is open already", () => {
  const opens = async (hash: string) => {
    queries.setQueryData(["session"], null);
    const stop = followLinks();
    location.hash = hash;
    window.dispatchEvent(new Event("hashchange"));
    stop();
    return queries.getQueryState(["session"])?.isInvalidated;
  };

  test("signs in, although nothing is loaded for it", async () => expect(await opens("#code=abc")).toBe(true));
  test("is one with a code", async () => expect(await opens("#main")).toBe(false));
});

test("a page that the browser had put away looks who is signed in when it is back", () => {
  queries.setQueryData(["session"], ANN);
  const stop = followOtherTabs();
  localStorage.setItem("chatcluster.user", "2");
  window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: false }));
  expect(queries.getQueryData(["session"])).toEqual(ANN);
  window.dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  stop();
  expect(queries.getQueryData(["session"])).toBeNull();
});

test("a write that is answered 401 ends the session", async () => {
  const stop = endSessionWhenRefused();
  queries.setQueryData(["session"], ANN);
  queries.setQueryData(["chats"], "hers");
  await expect(api.patch("/chats/a", {})).rejects.toMatchObject({ status: 401 });
  stop();
  expect(queries.getQueryData(["session"])).toBeNull();
  expect(queries.getQueryData(["chats"])).toBeUndefined();
  expect(sessionHasEnded()).toBe(true);
});

test("a session that one ended here oneself has not ended by itself", async () => {
  answers["DELETE /session"] = () => new Response(null, { status: 204 });
  queries.setQueryData(["session"], ANN);
  await signOut();
  expect(sessionHasEnded()).toBe(false);
});

describe("what is kept in a browser", () => {
  const sessionOf = (user: object) => answered(user);

  test("is there for the user whose session ended by itself, and for nobody else", async () => {
    answers["GET /session"] = sessionOf(ANN);
    await readSession();
    localStorage.setItem("chatcluster.draft.a", "secret");
    localStorage.setItem("chatcluster.seen", '{"a":1}');
    answers = { "POST /session": sessionOf(ANN) };
    await signIn("ccl_ann");
    expect(localStorage.getItem("chatcluster.draft.a")).toBe("secret");
    answers = { "POST /session": sessionOf(EVE) };
    await signIn("ccl_eve");
    expect({ ...localStorage }).toEqual({ "chatcluster.user": "2" });
  });

  test("by a tab that slept through its user's leaving is not there for the next one", async () => {
    answers["DELETE /session"] = () => new Response(null, { status: 204 });
    queries.setQueryData(["session"], ANN);
    await signOut();
    localStorage.setItem("chatcluster.draft.a", "secret");
    answers = { "POST /session": sessionOf(EVE) };
    await signIn("ccl_eve");
    expect({ ...localStorage }).toEqual({ "chatcluster.user": "2" });
  });

  test.each([
    ["out", null, null],
    ["in as somebody else", EVE, "2"],
  ])("tells all tabs that one of them has signed %s", async (_, user, newValue) => {
    queries.setQueryData(["session"], ANN);
    queries.setQueryData(["chats"], "hers");
    if (user) answers["GET /session"] = sessionOf(user);
    const stop = followOtherTabs();
    const unused = queries.getQueryCache().find({ queryKey: ["session"] });
    window.dispatchEvent(new StorageEvent("storage", { key: "chatcluster.user", oldValue: "1", newValue }));
    stop();
    expect(queries.getQueryData(["chats"])).toBeUndefined();
    expect(queries.getQueryData(["session"])).toBeNull();
    expect(unused?.isStale()).toBe(true);
  });

  test("says nothing new where the same user signs in again", () => {
    queries.setQueryData(["session"], ANN);
    const stop = followOtherTabs();
    window.dispatchEvent(new StorageEvent("storage", { key: "chatcluster.user", newValue: "1" }));
    stop();
    expect(queries.getQueryData(["session"])).toEqual(ANN);
  });
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
