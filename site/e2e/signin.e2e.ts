import { describe, expect, test } from "vitest";
import { call, cluster, composer, open, tabOf, until } from "./page.ts";

const signInHeading = "Sign in to chatcluster";

describe("signing in", () => {
  test("with a wrong token says why; with a right one shows the page, and signing out ends it in all tabs", async () => {
    const page = await open("/", { token: "" });
    await page.getByRole("heading", { name: signInHeading }).waitFor();
    await page.getByLabel("Token").fill("ccl_wrong");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").getByText("This token is not valid").waitFor();
    await page.getByLabel("Token").fill(cluster.token);
    await page.keyboard.press("Enter");
    await composer(page).waitFor();
    const other = await tabOf(page.context(), "/");
    await composer(other).waitFor();
    await page.getByRole("button", { name: "Preferences" }).click();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByRole("heading", { name: signInHeading }).waitFor();
    await other.getByRole("heading", { name: signInHeading }).waitFor();
    await page.getByLabel("Token").fill(cluster.token);
    await page.keyboard.press("Enter");
    await composer(other).waitFor();
    expect(await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]))).not.toContain(
      "ccl_",
    );
  });

  test("by a link works once, and leaves nothing of it in the address", async () => {
    const { code } = await call<{ code: string }>("POST", "/session/codes", {});
    const page = await open(`/#code=${code}`, { token: "" });
    await composer(page).waitFor();
    expect(page.url()).toBe(`${cluster.url}/`);
    const other = await open(`/#code=${code}`, { token: "" });
    await other.getByRole("heading", { name: signInHeading }).waitFor();
  });

  test("by a link works where the page is open already, and one that was used says so", async () => {
    const { code } = await call<{ code: string }>("POST", "/session/codes", {});
    const page = await open("/", { token: "" });
    await page.getByRole("heading", { name: signInHeading }).waitFor();
    await page.goto(`${cluster.url}/#code=${code}`); // nothing is loaded for it
    await composer(page).waitFor();
    expect(page.url()).toBe(`${cluster.url}/`);
    const other = await open("/", { token: "" });
    await other.getByRole("heading", { name: signInHeading }).waitFor();
    await other.goto(`${cluster.url}/#code=${code}`);
    await other.getByRole("alert").getByText("was used before").waitFor();
  });

  test("ends at once when its token is revoked", async () => {
    const made = await call<{ token: string; details: { id: string } }>("POST", "/tokens", { user: "eve" });
    const page = await open("/", { token: made.token });
    await composer(page).waitFor();
    expect(await page.getByRole("link", { name: "Cluster" }).count()).toBe(0);
    await call("DELETE", `/tokens/${made.details.id}`);
    await until("the page asks to sign in", async () => page.getByRole("heading", { name: signInHeading }).isVisible());
  });

  test("the cluster is for administrators", async () => {
    const { token } = await call<{ token: string }>("POST", "/tokens", { user: "bob" });
    const page = await open("/cluster/replicas", { token });
    await page.getByText("This is for administrators").waitFor();
  });
});
