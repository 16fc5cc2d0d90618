import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.{ts,tsx}"],
    environment: "happy-dom",
    setupFiles: ["test/setup.ts"],
    testTimeout: 60_000, // no test waits for time: on a machine that is busy they take as long as they are let
  },
});
