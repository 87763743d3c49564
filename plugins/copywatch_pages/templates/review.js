"use strict";
(() => {
  const base = document.body.dataset.base;
  const told = document.getElementById("told");
  const pairs = () => [...document.querySelectorAll("article.pair")];
  const open = () => pairs().filter((pair) => !pair.dataset.state);
  // Which pairs the page shows: those that wait, or those that left the queue.
  const shown = document.querySelector(".filter [name=state]").value;
  let current = null;
  let quiet = 0;

  function tell(text, bad = false) {
    told.textContent = text;
    told.className = bad ? "shown bad" : "shown";
    clearTimeout(quiet);
    quiet = setTimeout(() => { told.className = ""; }, bad ? 10000 : 3500);
  }

  function choose(pair, scroll = true) {
    if (current) current.classList.remove("current");
    current = pair || null;
    if (!current) return;
    current.classList.add("current");
    current.focus({ preventScroll: true });
    if (scroll) current.scrollIntoView({ block: "start" });
  }

  function step(by) {
    const left = open();
    if (!left.length) return;
    const at = left.indexOf(current);
    choose(left[Math.min(Math.max(at + by, 0), left.length - 1)]);
  }

  function count(counts) {
    for (const [state, number] of Object.entries(counts)) {
      for (const place of document.querySelectorAll(`[data-count="${state}"]`)) place.textContent = number;
    }
    document.title = counts.pending ? `(${counts.pending}) Review` : "Review";
  }

  async function decide(pair, decision) {
    if (pair.dataset.state) return;
    pair.dataset.state = "sending";
    const after = open().find((other) => pair.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING);
    let answer;
    try {
      const response = await fetch(`${base}/review/${pair.dataset.review}/decision`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Copywatch": "review" },
        body: JSON.stringify({ decision }),
      });
      answer = await response.json().catch(() => ({ detail: `the server answered ${response.status}` }));
      if (response.status === 409 || response.status === 404) {
        close(pair, "refused", answer.detail);
        tell(answer.detail, true);
        return;
      }
      if (!response.ok) throw new Error(answer.detail);
    } catch (error) {
      delete pair.dataset.state;
      tell(`Not noted: ${error.message}. Try again.`, true);
      return;
    }
    close(pair, answer.state, answer.state === "accepted" ? "A copy: the owner will be alerted." : "Not a copy.");
    count(answer.counts);
    tell(answer.state === "accepted" ? "Noted: a copy" : "Noted: not a copy");
    if (pair === current || !current) choose(after || open()[0], Boolean(after || open()[0]));
    if (!open().length) next(answer.counts[shown]);
  }

  function close(pair, state, text) {
    stopFlicker(pair);
    pair.dataset.state = state;
    const line = document.createElement("p");
    line.textContent = `${pair.querySelector("h2").textContent} · ${pair.querySelector("figcaption bdi").textContent}: ${text}`;
    pair.replaceChildren(line);
  }

  function next(left) {
    const address = new URL(location.href);
    address.searchParams.delete("after_id");
    if (left) setTimeout(() => location.assign(address), 700);
    else document.getElementById("empty").hidden = false;
  }

  const flickers = new Map();
  function stopFlicker(pair) {
    clearInterval(flickers.get(pair));
    flickers.delete(pair);
    pair.querySelector(".found")?.classList.remove("away");
  }

  function show(pair, mode) {
    const pictures = pair.querySelector(".pictures");
    const found = pair.querySelector(".found");
    if (!pair.querySelector(`button[data-mode="${mode}"]`)) return; // there is nothing to show so
    stopFlicker(pair);
    pictures.dataset.mode = mode;
    for (const button of pair.querySelectorAll("[data-mode][aria-pressed]")) {
      button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    }
    if (found) found.style.opacity = mode === "overlay" ? pair.querySelector(".opacity input").value / 100 : "";
    pair.classList.toggle("overlaid", mode === "overlay");
    if (mode === "flicker") flickers.set(pair, setInterval(() => found.classList.toggle("away"), 600));
  }

  function toggle(pair, mode) {
    show(pair, pair.querySelector(".pictures").dataset.mode === mode ? "side" : mode);
  }

  document.addEventListener("click", (event) => {
    const pair = event.target.closest("article.pair");
    if (!pair || pair.dataset.state) return;
    const decision = event.target.closest("[data-decision]");
    const mode = event.target.closest("button[data-mode]");
    choose(pair, false);
    if (decision) decide(pair, decision.dataset.decision);
    else if (mode) show(pair, mode.dataset.mode);
  });

  document.addEventListener("input", (event) => {
    if (event.target.matches(".opacity input")) show(event.target.closest("article.pair"), "overlay");
  });

  document.querySelector(".filter select")?.addEventListener("change", (event) => event.target.form.submit());

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest("select, input, textarea")) return;
    const key = event.key.toLowerCase();
    if (key === "j" || key === "k") step(key === "j" ? 1 : -1);
    else if (!current || current.dataset.state) return;
    else if (key === "a" || key === "r") {
      const button = current.querySelector(`[data-decision="${key === "a" ? "accepted" : "refused"}"]`);
      if (!button) return;
      decide(current, button.dataset.decision);
    } else if (key === "o") toggle(current, "overlay");
    else if (key === "f") toggle(current, "flicker");
    else if (key === "d") toggle(current, "difference");
    else return;
    event.preventDefault();
  });

  // New pairs come while the page is open: an idle page shows them, a busy one only counts.
  setInterval(async () => {
    if (document.hidden) return;
    try {
      const response = await fetch(`${base}/api/reviews?state=pending&limit=1`);
      if (!response.ok) return;
      const { counts } = await response.json();
      count(counts);
      const narrowed = new URL(location.href).searchParams;
      if (shown === "pending" && !open().length && counts.pending && !narrowed.get("site") && !narrowed.get("after_id")) location.reload();
    } catch { /* the next look will tell */ }
  }, 10000);

  choose(open()[0], false);
})();
