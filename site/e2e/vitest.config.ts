import { defineConfig } from "vitest/config";

// The page in a real browser, on a cluster of its own. One file after the other: they kill the same replicas.
export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: [process.env.SCREENSHOTS ? "screenshots.ts" : "*.e2e.ts"],
    globalSetup: ["cluster.ts"],
    fileParallelism: false,
    // A test waits for states, each for as long as a busy machine may need: see `PATIENCE_MS` in page.ts.
    testTimeout: 600_000,
    hookTimeout: 180_000,
    retry: 0,
    // Each test as it ends: one that waits for what does not come is known by the one before.
    reporters: ["verbose"],
  },
});
