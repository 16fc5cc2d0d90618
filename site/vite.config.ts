import tailwindcss from "@tailwindcss/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// For work on the page: `npm run dev` serves it with the API of a cluster that runs elsewhere. With
// CHATCLUSTER_TOKEN the proxy signs every request in; without, sign in on the page.
const cluster = process.env.CHATCLUSTER_URL ?? "http://127.0.0.1:8000";
const token = process.env.CHATCLUSTER_TOKEN;
const proxied = { target: cluster, headers: token ? { Authorization: `Bearer ${token}` } : {} };

export default defineConfig({
  plugins: [react(), tailwindcss()],
  server: { proxy: { "/api": proxied, "/schema": proxied, "/oauth": proxied } },
  build: {
    outDir: "../chatcluster/web/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    // An image in a style sheet or a script would be a data: address; files have cache headers.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 1000,
  },
});
