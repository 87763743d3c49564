"use strict";
(() => {
  const base = document.body.dataset.base;
  const told = document.getElementById("told");
  const measure = document.querySelector(".force")?.dataset;

  document.querySelector(".filter select")?.addEventListener("change", (event) => event.target.form.submit());

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.choose");
    if (!button) return;
    const buttons = document.querySelectorAll("button.choose");
    for (const one of buttons) one.disabled = true;
    try {
      const response = await fetch(`${base}/thresholds/choice`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Copywatch": "thresholds" },
        body: JSON.stringify({
          algorithm: measure.measureAlgorithm,
          rule: measure.measureRule,
          method: button.dataset.method,
          run: button.dataset.run || null,
        }),
      });
      const answer = await response.json().catch(() => ({ detail: `the server answered ${response.status}` }));
      if (!response.ok) throw new Error(answer.detail);
    } catch (error) {
      for (const one of buttons) one.disabled = false;
      told.textContent = `Not noted: ${error.message}. Try again.`;
      told.className = "shown bad";
      return;
    }
    // The answer is on the page: what is in force, and who chose it.
    history.scrollRestoration = "manual";
    location.reload();
  });
})();
