import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Attachment, Attachments, bytes, forgetAttachments } from "../src/chat/attachments.ts";
import { forgetDrafts } from "../src/chat/drafts.ts";
import { ApiError, contentOf, type FileInfo, filesIn } from "../src/client/index.ts";
import { api } from "../src/server.ts";
import { settled } from "./server.ts";

const FILE: FileInfo = { id: "f1", name: "plan.pdf", media_type: "application/pdf", size_bytes: 7 };
const source = (name: string, size = 3) => new File(["x".repeat(size)], name);

type Pending = { name: string; give: (file: FileInfo) => void; refuse: (error: Error) => void; signal: AbortSignal };
let pending: Pending[] = [];

beforeEach(() => {
  pending = [];
  vi.spyOn(api, "get").mockResolvedValue({ file_bytes_max: 100 });
  vi.spyOn(api, "delete").mockResolvedValue();
  vi.spyOn(api, "upload").mockImplementation(
    (_, name, { signal } = {}) =>
      new Promise((give, refuse) => {
        signal?.addEventListener("abort", () => refuse(signal.reason));
        pending.push({ name, give, refuse, signal: signal as AbortSignal });
      }),
  );
});

afterEach(() => {
  vi.restoreAllMocks();
  forgetAttachments();
  forgetDrafts();
});

const states = (draft: Attachments) => draft.shown.now.map(({ name, state }) => `${name} ${state}`);
const first = (draft: Attachments) => draft.shown.now[0] as Attachment;

describe("files of a draft", () => {
  test("are uploaded two at a time, in the order in which they were chosen", async () => {
    const draft = new Attachments("a");
    draft.add([source("1"), source("2"), source("3")]);
    await settled();
    expect(pending.map(({ name }) => name)).toEqual(["1", "2"]);
    pending[0]?.give({ ...FILE, name: "1" });
    await settled();
    expect(states(draft)).toEqual(["1 there", "2 sending", "3 sending"]);
  });

  test("are kept with the draft once they are there, and nothing of the others", async () => {
    const draft = new Attachments("a");
    draft.add([source("plan.pdf"), source("slow")]);
    await settled();
    pending[0]?.give(FILE);
    await settled();
    expect(states(new Attachments("a"))).toEqual(["plan.pdf there"]);
    expect(states(new Attachments("b"))).toEqual([]);
    draft.clear();
    expect(states(new Attachments("a"))).toEqual([]);
  });

  test("that are gone from the server by the time are told, and are not sent", async () => {
    const draft = new Attachments("a");
    draft.add([source("plan.pdf")]);
    await settled();
    pending[0]?.give(FILE);
    await settled();
    vi.mocked(api.get).mockRejectedValue(new ApiError(404, "file_not_found", "there is no such file"));
    const later = new Attachments("a");
    await settled();
    expect(first(later)).toMatchObject({ state: "failed", file: null });
    expect(first(later).problem).toContain("Attach it again");
  });

  test("that are too large are not begun, and say how large they may be", async () => {
    const draft = new Attachments("a");
    draft.add([source("big", 101)]);
    await settled();
    expect(pending).toEqual([]);
    expect(first(draft)).toMatchObject({ state: "failed", problem: "It has 101 B; a file may have 100 B." });
  });

  test("that are refused say why in the server's words, and may be tried again", async () => {
    const draft = new Attachments("a");
    draft.add([source("x.exe")]);
    await settled();
    pending[0]?.refuse(new ApiError(415, "unsupported_file", "this is no file of a kind that is taken"));
    await settled();
    expect(first(draft)).toMatchObject({ state: "failed", problem: "This is no file of a kind that is taken" });
    draft.again(first(draft).key);
    await settled();
    expect(pending).toHaveLength(2);
    expect(states(draft)).toEqual(["x.exe sending"]);
  });

  test("that are taken away while they are sent are broken off; once there, they are deleted", async () => {
    const draft = new Attachments("a");
    draft.add([source("1"), source("2")]);
    await settled();
    draft.remove(first(draft).key);
    expect(pending[0]?.signal.aborted).toBe(true);
    pending[1]?.give(FILE);
    await settled();
    draft.remove(first(draft).key);
    expect(api.delete).toHaveBeenCalledExactlyOnceWith("/files/f1");
    expect(states(draft)).toEqual([]);
  });

  test("that come while the message is on its way stay for the next one", async () => {
    const draft = new Attachments("a");
    draft.add([source("1")]);
    await settled();
    pending[0]?.give(FILE);
    await settled();
    const along = draft.shown.now;
    draft.add([source("2")]);
    draft.sent(along);
    await settled();
    expect(states(draft)).toEqual(["2 sending"]);
    expect(states(new Attachments("a"))).toEqual([]);
    expect(api.delete).not.toHaveBeenCalled();
  });

  test("are at most fifty", () => {
    const draft = new Attachments("a");
    draft.add(Array.from({ length: 60 }, (_, at) => source(String(at))));
    expect(draft.shown.now).toHaveLength(50);
  });

  test.each(["{}", "no JSON", '[{"id":1}]', "[null]", '"text"'])("kept as %s are none", (text) => {
    localStorage.setItem("chatcluster.draft.files.a", text);
    expect(states(new Attachments("a"))).toEqual([]);
  });
});

describe("the content of a message", () => {
  test("is a text without files, and parts with them: files first, no text that is none", () => {
    expect(contentOf("hi", [])).toBe("hi");
    expect(contentOf("hi", [{ file_id: "f" }])).toEqual([
      { type: "file", file_id: "f" },
      { type: "text", text: "hi" },
    ]);
    expect(contentOf(" ", [{ file_id: "f" }])).toEqual([{ type: "file", file_id: "f" }]);
  });

  test("has its files when it is edited", () => {
    const part = { type: "file", file_id: "f", name: "n", media_type: "text/plain", size_bytes: 1 } as const;
    expect(filesIn([part, { type: "text", text: "hi" }])).toEqual([part]);
  });
});

test.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [1024, "1.0 kB"],
  [10 << 20, "10 MB"],
])("%i bytes are read as %s", (count, words) => expect(bytes(count)).toBe(words));
