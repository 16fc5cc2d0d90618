import { defineConfig } from "vitest/config";

// The page in a real browser, on a cluster of its own. One file after the other: they kill the same replicas.
export default defineConfig({
  test: {
    root: import.meta.dirname,
    include: ["*.e2e.ts"],
    globalSetup: ["cluster.ts"],
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 120_000,
    retry: 0,
  },
});
