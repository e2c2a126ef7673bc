"use strict";
// Asks the run's network about the point that the sliders set, and about pictures.
(() => {
  const patchcollide = (window.patchcollide ??= {});
  const { SimplexControl, pixelsOf } = patchcollide;
  const settings = JSON.parse(document.getElementById("explorer").dataset.explorer);

  /** Asks the explorer; returns what it answers, or throws an error with its sentence. */
  async function ask(path, options = {}) {
    let answer;
    try {
      answer = await fetch(path, { cache: "no-store", ...options });
    } catch {
      throw new Error("The explorer does not answer. Is it still running in its terminal?");
    }
    const value = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(value.error ?? `The explorer answered ${answer.status}.`);
    return value;
  }

  /** Sends a file's bytes; larger ones than the explorer takes are not sent. */
  async function send(path, file) {
    if (file.size > settings.maxBytes) {
      throw new Error(`The picture has ${file.size} bytes, more than the ${settings.maxBytes} that fit.`);
    }
    return ask(path, { method: "POST", body: file });
  }

  /** Returns a new element with a text, a class and parts. */
  function element(tag, { text, className, parts = [] } = {}) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    made.append(...parts);
    return made;
  }

  const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
  const width = (share) => `${(100 * share).toFixed(2)}%`;
  const number = (value) => (value === 0 ? "0" : Number(value.toPrecision(3)).toString());
  // As the report's: three digits, and what is many times as large in times.
  const share = (value) => (value >= 10 ? `${number(value)} times` : `${number(100 * value)} %`);

  function classRow({ class: index, class_name: name, probability }, goal) {
    const bar = element("span", { className: "bar" });
    bar.style.width = width(probability);
    const track = element("span", { className: "track", parts: [bar] });
    track.setAttribute("aria-hidden", "true");
    const value = element("span", { text: probability.toFixed(3), className: "value" });
    const isGoal = index === goal.class;
    const label = element("span", { text: isGoal ? `${name} (target)` : name });
    return element("li", { className: isGoal ? "goal" : "", parts: [label, track, value] });
  }

  function besideOthers({ num_images: count, num_nearer: nearer, nearest_control: control, is_near: isNear }) {
    const least = control === null ? "" : ` (${percent(control, 1)})`;
    return `${nearer} of ${count}; ${isNear ? "nearer" : "no nearer"} than the best control${least}: silent ` +
      "features, the images' mean features, the nearest image";
  }

  function facts({ gaps, membership, others, distances, ...answer }) {
    const rows = [
      ["inside the polytope", `${membership.inside ? "yes: every" : "no: not every"} feature is within ` +
        `${number(membership.tolerance)}, ${percent(membership.tolerance_relative, 0)} of the target's typical one`],
      ["distance of the features", number(gaps.feature_distance) +
        (gaps.feature_distance_relative === null ? "" :
          `, ${share(gaps.feature_distance_relative)} of the target's from silence`)],
      ["active units, mean gap", gaps.active_feature_gap_mean_relative === null ? number(gaps.active_feature_gap_mean) :
        `${share(gaps.active_feature_gap_mean_relative)} of the target's mean`],
      ["active units, largest gap", gaps.active_feature_gap_max_relative === null ? number(gaps.active_feature_gap_max) :
        share(gaps.active_feature_gap_max_relative)],
      ["inactive units that respond", share(gaps.inactive_response_share)],
      ["nearest vertex", `vertex ${distances.nearest_vertex_number}, ${number(distances.nearest_vertex)} away (L2, 0..255)`],
      ["source", `${number(distances.source)} away`],
    ];
    if (others) {
      rows.splice(2, 0, ["images of the data set that are nearer", besideOthers(others)]);
    }
    rows.push(["answered in", `${answer.milliseconds.toFixed(0)} ms`]);
    return rows.flatMap(([name, value]) => [
      element("dt", { text: name }), element("dd", { text: value })]);
  }

  /** Shows what the network makes of a picture. */
  class Answer {
    constructor(root) {
      this.root = root;
      this.waiting = 0;
    }

    find(selector) {
      return this.root.querySelector(selector);
    }

    show(answer) {
      const { target, membership, top } = answer;
      const same = membership.collides_class;
      this.root.hidden = false;
      this.find(".chance").textContent = `${target.class_name} ${target.probability.toFixed(3)}`;
      this.find(".meter").style.width = width(target.probability);
      this.find(".verdict").textContent = same
        ? `classified as the target: a ${membership.verdict}${membership.inside ? ", and inside the polytope" : ""}`
        : `classified as ${top[0].class_name}`;
      this.find(".classes").replaceChildren(...top.map((row) => classRow(row, target)));
      this.find(".facts").replaceChildren(...facts(answer));
      // Read out once it rests, not at every answer.
      clearTimeout(this.waiting);
      this.waiting = setTimeout(() => {
        this.find(".announced").textContent = `${top[0].class_name} ${top[0].probability.toFixed(3)}; ` +
          `${target.class_name}, the target, ${target.probability.toFixed(3)}`;
      }, 500);
    }
  }

  /** Asks one question at a time; of those that come meanwhile, only the latest is asked. */
  class Latest {
    constructor(question, show, fail) {
      Object.assign(this, { question, show, fail, next: null, busy: false });
    }

    async ask(value) {
      this.next = { value };
      if (this.busy) return;
      this.busy = true;
      while (this.next) {
        const { value: asked } = this.next;
        this.next = null;
        try {
          this.show(await this.question(asked));
        } catch (error) {
          this.fail(error);
        }
      }
      this.busy = false;
    }
  }

  /** Has a chooser take a file from its input, or dropped on it, and hands it on. */
  function choose(root, take) {
    const input = root.querySelector("input");
    const problem = root.querySelector(".problem");
    const image = root.querySelector("img");
    const latest = new Latest(take, ({ picture }) => {
      problem.textContent = "";
      image.src = picture;
      image.alt = "The picture as the network sees it";
      image.hidden = false;
    }, (error) => {
      problem.textContent = error.message;
      image.hidden = true;
    });
    input.addEventListener("change", () => input.files[0] && latest.ask(input.files[0]));
    root.addEventListener("dragover", (event) => {
      event.preventDefault();
      root.classList.add("over");
    });
    root.addEventListener("dragleave", () => root.classList.remove("over"));
    root.addEventListener("drop", (event) => {
      event.preventDefault();
      root.classList.remove("over");
      const [file] = event.dataTransfer.files;
      if (file) latest.ask(file);
    });
  }

  async function explore() {
    const root = document.getElementById("live");
    const pictures = [...document.querySelectorAll("img[data-vertex]")];
    await Promise.all(pictures.map((image) => image.decode()));
    const control = new SimplexControl(root, pictures.map(pixelsOf), settings);
    const answer = new Answer(root.querySelector(".answer"));
    const problem = root.querySelector(".problem");
    const save = root.querySelector(".save");
    const latest = new Latest(
      (weights) => ask("api/point", { method: "POST", body: JSON.stringify({ weights }) }),
      (found) => {
        problem.textContent = "";
        answer.show(found);
        root.dataset.answers = String(Number(root.dataset.answers ?? 0) + 1);
      },
      (error) => { problem.textContent = error.message; },
    );
    const changed = () => {
      save.href = `point.png?weights=${control.weights.join(",")}`;
      latest.ask(control.weights);
    };
    control.addEventListener("change", changed);
    changed();
    patchcollide.control = control;
  }

  const compared = new Answer(document.querySelector("#compare .answer"));
  choose(document.getElementById("compared"), async (file) => {
    compared.root.hidden = true;
    const found = await send("api/compare", file);
    compared.show(found);
    return found;
  });
  // A picture that misses its place must not take the place of the page.
  for (const name of ["dragover", "drop"]) {
    window.addEventListener(name, (event) => event.preventDefault());
  }
  Object.assign(patchcollide, { ask, send, choose, element, settings });
  explore();
})();
