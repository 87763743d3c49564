"use strict";
// Inside the Airflow UI: wear its colours, and open links although the frame's sandbox forbids new windows.
(() => {
  let outer = null;
  try {
    if (window.parent !== window && window.parent.document) outer = window.parent.document;
  } catch {
    outer = null; // a sandbox without allow-same-origin
  }
  if (outer) {
    const root = outer.documentElement;
    const wear = () => {
      const dark = root.classList.contains("dark") || root.dataset.theme === "dark";
      const light = root.classList.contains("light") || root.dataset.theme === "light";
      if (dark || light) document.documentElement.dataset.theme = dark ? "dark" : "light";
    };
    wear();
    const watcher = new MutationObserver(wear);
    watcher.observe(root, { attributes: true, attributeFilter: ["class", "data-theme"] });
    // The UI's document outlives this page.
    window.addEventListener("pagehide", () => watcher.disconnect());
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.outside");
    if (!link || !outer || event.defaultPrevented) return;
    event.preventDefault();
    // Only what the server let through as a link comes here: http and https.
    const opener = outer.createElement("a");
    opener.href = link.href;
    opener.target = "_blank";
    opener.rel = "noopener noreferrer nofollow";
    outer.body.append(opener);
    opener.click();
    opener.remove();
  });

  document.addEventListener("error", (event) => {
    if (event.target instanceof HTMLImageElement) event.target.classList.add("lost");
  }, true);
})();
