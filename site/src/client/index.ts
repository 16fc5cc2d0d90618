/** A client of chatcluster for pages: it needs a browser (or Node), and nothing else. See docs/api.md of the project. */

export { Api, ApiError, type ApiOptions, JsonText, randomKey } from "./api.ts";
export { AGENT_TOOLS, type Agents, type Busy, OpenChat, type Sent } from "./chat.ts";
export { contentOf, filesIn } from "./content.ts";
export type { CallOutput } from "./outputs.ts";
export { EventParser, type ServerEvent } from "./sse.ts";
export { Store } from "./store.ts";
export { follow, type StreamOptions, type StreamState } from "./stream.ts";
export { type Connection, type ListChange, pauseWhileHidden, reconnectWhenOnline, Tab } from "./tab.ts";
export {
  applied,
  type ChatView,
  EMPTY_VIEW,
  extended,
  type Handover,
  hydrated,
  isAtRest,
  type Notice,
  type Page,
  textOf,
  thought,
} from "./view.ts";
export type * from "./wire.ts";
