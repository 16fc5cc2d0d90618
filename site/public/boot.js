// While a cluster is being updated, the page of one version may ask a replica of another for its files, which that has
// not: then there would be nothing at all. The page is asked for again, a few times, and then says what is wrong.
// Once the page is there, whatever it loads later is its own business.

(() => {
  const KEY = "chatcluster.boots";
  const TRIES_MAX = 5;
  const PAUSE_MS = 500;
  let isOver = false;

  addEventListener(
    "error",
    ({ target }) => {
      const root = document.getElementById("root");
      const isFile = target instanceof Element && target.matches("script, link[rel=stylesheet]");
      if (isOver || !isFile || !root || root.childElementCount) return;
      isOver = true;
      const tries = tried() + 1;
      if (tries <= TRIES_MAX && noted(tries)) setTimeout(() => location.reload(), PAUSE_MS * tries);
      else giveUp(root);
    },
    true,
  );
  addEventListener("load", () => isOver || noted(0));

  function giveUp(root) {
    noted(0);
    root.textContent = "The page cannot be loaded. Try again in a moment.";
  }

  function tried() {
    try {
      return Number(sessionStorage.getItem(KEY)) || 0;
    } catch {
      return 0;
    }
  }

  /** Whether it could be noted: without that it would go on for ever. */
  function noted(tries) {
    try {
      if (tries) sessionStorage.setItem(KEY, String(tries));
      else sessionStorage.removeItem(KEY);
      return true;
    } catch {
      return false;
    }
  }
})();
