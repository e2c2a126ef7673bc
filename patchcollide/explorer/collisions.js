"use strict";
// Makes new collisions from two pictures and shows how far they are.
(() => {
  const { ask, send, choose, element, settings } = window.patchcollide;
  const section = document.getElementById("collide");
  const address = `${settings.root}api/collisions`;
  const list = section.querySelector(".collisions");
  const button = section.querySelector(".start");
  const problem = section.querySelector("form > .problem");
  const chosen = {};
  const shown = new Map();
  let timer = 0;

  for (const role of ["source", "target"]) {
    choose(document.getElementById(`new-${role}`), async (file) => {
      delete chosen[role];
      const found = await send(`${settings.root}api/uploads`, file);
      chosen[role] = found.id;
      return found;
    });
  }

  function words(job) {
    if (job.state === "queued") return "waits";
    if (job.state === "failed") return `failed: ${job.error}`;
    if (job.state === "done") return `done: ${job.folder}`;
    if (job.state === "cancelled") return "cancelled";
    if (job.cancelling) return "stops after this step";
    return job.total ? `${job.stage}, ${job.step} of ${job.total}` : "gets ready";
  }

  async function cancel(id) {
    try {
      await ask(`${address}/${id}/cancel`, { method: "POST" });
      problem.textContent = "";
    } catch (error) {
      problem.textContent = error.message;
    }
    refresh();
  }

  /** Makes the row of a collision, once: what changes is set in place, so focus stays. */
  function makeRow(job) {
    const row = {
      title: element("p", { parts: [element("strong", { text: `Collision ${job.id}` })] }),
      state: element("p"),
      progress: element("progress"),
      cancel: element("button", { text: "Cancel" }),
      links: element("p"),
    };
    row.progress.setAttribute("aria-label", `Progress of collision ${job.id}`);
    row.cancel.type = "button";
    row.cancel.setAttribute("aria-label", `Cancel collision ${job.id}`);
    row.cancel.addEventListener("click", () => cancel(job.id));
    list.prepend(element("li", { parts: Object.values(row) }));
    return row;
  }

  function link(text, href) {
    const made = element("a", { text });
    made.href = href;
    return made;
  }

  function show(job) {
    if (!shown.has(job.id)) shown.set(job.id, makeRow(job));
    const row = shown.get(job.id);
    const live = job.state === "queued" || job.state === "running";
    row.state.textContent = words(job);
    row.progress.hidden = !live;
    row.cancel.hidden = !live;
    row.cancel.disabled = job.cancelling;
    if (job.total) {
      row.progress.max = job.total;
      row.progress.value = job.step;
    } else {
      row.progress.removeAttribute("value");
    }
    if (row.last === job.state) return;
    if (row.last !== undefined || live) {
      section.querySelector(":scope > .announced").textContent = `Collision ${job.id}: ${
        job.state === "running" ? "being made" : words(job)}`;
    }
    row.last = job.state;
    if (job.state === "done") {
      const place = `${settings.root}runs/${job.id}/`;
      row.links.append(link("Explore it", place), " · ", link("Its report", `${place}report.html`));
    }
  }

  async function refresh() {
    clearTimeout(timer);
    try {
      const { collisions } = await ask(address);
      collisions.forEach(show);
      const live = collisions.some(({ state }) => state === "queued" || state === "running");
      if (live) timer = setTimeout(refresh, 500);
    } catch (error) {
      problem.textContent = error.message;
    }
  }

  section.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!chosen.source || !chosen.target) {
      problem.textContent = "Choose a source and a target first.";
      return;
    }
    button.disabled = true;
    try {
      await ask(address, { method: "POST", body: JSON.stringify(chosen) });
      problem.textContent = "";
    } catch (error) {
      problem.textContent = error.message;
    }
    button.disabled = false;
    refresh();
  });

  refresh();
})();
