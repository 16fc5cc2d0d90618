/** Whether this browser is told when an answer is there: asked for by the user, and undone by signing out. */

import type { Schemas } from "./client/index.ts";
import { api } from "./server.ts";

/** `unable`: the browser cannot, or the page did not come by HTTPS. `off` by the cluster: it has no key for it. */
export type PushState = "unable" | "not set up" | "denied" | "off" | "on";

const canPush = (): boolean =>
  "serviceWorker" in navigator && "PushManager" in globalThis && "Notification" in globalThis;

export async function pushState(): Promise<PushState> {
  if (!canPush()) return "unable";
  if (!(await publicKey())) return "not set up";
  if (Notification.permission === "denied") return "denied";
  const [here, known] = await Promise.all([subscriptionHere(), subscriptionsThere()]);
  return here && known.some(({ endpoint }) => endpoint === here.endpoint) ? "on" : "off";
}

/** Ask the user, then subscribe. Throws with words for people. */
export async function switchPushOn(): Promise<void> {
  // Before all else: some browsers ask only as long as the press is a moment ago.
  if ((await Notification.requestPermission()) !== "granted") throw new Error("the browser was not allowed to");
  const key = await publicKey();
  if (!key) throw new Error("this cluster has no key for push");
  const registration = await navigator.serviceWorker.register(workerUrl() as string);
  await navigator.serviceWorker.ready;
  const made = await subscribed(registration, key);
  await api.post("/me/push-subscriptions", made.toJSON());
}

/** One with another key, of a cluster that was here before, is of no use. */
async function subscribed(registration: ServiceWorkerRegistration, key: string): Promise<PushSubscription> {
  const options = { userVisibleOnly: true, applicationServerKey: key };
  try {
    return await registration.pushManager.subscribe(options);
  } catch (error) {
    const before = await registration.pushManager.getSubscription();
    if (!before) throw error;
    await before.unsubscribe();
    return registration.pushManager.subscribe(options);
  }
}

/** This browser is told no more, whoever is signed in in it. */
export async function switchPushOff(): Promise<void> {
  const here = await subscriptionHere();
  if (!here) return;
  const found = (await subscriptionsThere()).find(({ endpoint }) => endpoint === here.endpoint);
  if (found) await api.delete(`/me/push-subscriptions/${found.id}`);
  await here.unsubscribe();
}

/** What another user asked to be told here is nothing for whoever has signed in now. Their session may have ended by itself. */
export async function endPushOfOthers(): Promise<void> {
  const here = await subscriptionHere();
  if (!here) return;
  const isMine = (await subscriptionsThere()).some(({ endpoint }) => endpoint === here.endpoint);
  if (!isMine) await here.unsubscribe();
}

async function publicKey(): Promise<string | null> {
  return (await api.get<Schemas["PushKeyAnswer"]>("/push")).public_key;
}

async function subscriptionsThere() {
  return (await api.get<Schemas["SubscriptionsAnswer"]>("/me/push-subscriptions")).subscriptions;
}

async function subscriptionHere(): Promise<PushSubscription | null> {
  if (!canPush()) return null;
  return (await (await navigator.serviceWorker.getRegistration("/"))?.pushManager.getSubscription()) ?? null;
}

type TrustedTypes = {
  createPolicy: (
    name: string,
    rules: { createScriptURL: (url: string) => string },
  ) => {
    createScriptURL: (url: string) => unknown;
  };
};

/** The one script that is loaded by its address. Where the browser insists on it, the address is vouched for. */
function workerUrl(): unknown {
  const { trustedTypes } = globalThis as { trustedTypes?: TrustedTypes };
  return trustedTypes?.createPolicy("chatcluster", { createScriptURL: () => "/sw.js" }).createScriptURL("") ?? "/sw.js";
}
