/** What the client expects on the wire is what the API says that it sends. The compiler is the judge. */

import { expectTypeOf, test } from "vitest";
import type { Chat, ChatEvent, Part, Queued, Schemas } from "../src/client/index.ts";

type Sent<Type extends string> = Extract<ChatEvent, { type: Type }>;
type Plain<T> = Omit<T, "status">;

test("events, chats, parts", () => {
  expectTypeOf<Plain<Schemas["StatusEvent"]>>().toExtend<Plain<Sent<"status">>>();
  expectTypeOf<Schemas["QueueEvent"]>().toExtend<{ queue: { id: number }[] }>();
  expectTypeOf<Schemas["RetryEvent"]>().toExtend<Sent<"retry">>();
  expectTypeOf<Schemas["TurnEvent"]>().toExtend<Sent<"turn">>();
  expectTypeOf<Schemas["TitleEvent"]>().toExtend<Sent<"title">>();
  expectTypeOf<Plain<Schemas["ChatAnswer"]>>().toExtend<Plain<Chat>>();
  expectTypeOf<Schemas["ToolCallPart"]>().toExtend<Part>();
  expectTypeOf<Schemas["ToolArgumentsPart"]>().toExtend<Part>();
  expectTypeOf<Schemas["ToolProgressPart"]>().toExtend<Part>();
  expectTypeOf<Schemas["ReasoningPart"]>().toExtend<Part>();
  expectTypeOf<Omit<Schemas["QueuedMessage"], "parts">>().toExtend<Omit<Queued, "parts">>();
});
