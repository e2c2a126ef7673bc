"use strict";
// Shows what is proved of an edge or a triangle: its cells in colour, more of them at each question.
(() => {
  const patchcollide = window.patchcollide;
  const { ask } = patchcollide;
  const section = document.getElementById("faces");
  if (!section) return;
  const drawing = section.querySelector("svg");
  const summary = section.querySelector(".found");
  const problem = section.querySelector(".problem");
  const button = section.querySelector(".start");
  const choices = [...section.querySelectorAll("select")];
  const places = {
    2: [[20, 60], [580, 60]],
    3: [[300, 20], [20, 380], [580, 380]],
  };
  const words = { proved: "proved", open: "open", violated: "another class" };

  function svg(tag, attributes, text = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    return made;
  }

  const chosen = () => choices.map((choice) => choice.value).filter((value) => value !== "").map(Number);

  function at(corners, weights) {
    return [0, 1].map((axis) => weights.reduce((sum, weight, one) => sum + weight * corners[one][axis], 0));
  }

  /** Returns the shape of a cell: a stripe of an edge, or a triangle. */
  function shapeOf(cell, corners) {
    const points = cell.corners.map((weights) => at(corners, weights));
    const attributes = { class: `cell ${cell.state}` };
    let shape;
    if (points.length === 2) {
      const [from, to] = points.map(([x]) => x).sort((a, b) => a - b);
      shape = svg("rect", { ...attributes, x: from, y: 30, width: to - from, height: 60 });
    } else {
      shape = svg("polygon", { ...attributes, points: points.map((point) => point.join(",")).join(" ") });
    }
    shape.append(svg("title", {}, `${words[cell.state]}; margin at least ${Number(cell.margin.toPrecision(3))}`));
    return shape;
  }

  /** Sets the sliders to the middle of a cell. */
  function goTo(cell, vertices) {
    const control = patchcollide.control;
    const weights = control.weights.map(() => 0);
    vertices.forEach((vertex, one) => {
      weights[vertex] = cell.corners.reduce((sum, corner) => sum + corner[one], 0) / cell.corners.length;
    });
    control.stopAndSet(weights);
  }

  function show(found) {
    const corners = places[found.vertices.length];
    drawing.setAttribute("viewBox", found.vertices.length === 2 ? "0 0 600 130" : "0 0 600 420");
    const shapes = found.cells.map((cell) => {
      const shape = shapeOf(cell, corners);
      shape.addEventListener("click", () => goTo(cell, found.vertices));
      return shape;
    });
    const names = found.vertices.map((vertex, one) => {
      const [x, y] = corners[one];
      const below = found.vertices.length === 2 ? 120 : y + (one ? 30 : -6);
      const anchor = x < 100 ? "start" : x > 500 ? "end" : "middle";
      return svg("text", { x, y: below, "text-anchor": anchor }, `vertex ${vertex}`);
    });
    drawing.replaceChildren(...shapes, ...names);
    const kind = found.vertices.length === 2 ? "edge" : "triangle";
    const counted = (state) => found.cells.filter((cell) => cell.state === state).length;
    const share = `${Number((100 * found.share_proved).toPrecision(4))} %`;
    summary.textContent = found.share_proved === 1
      ? `All of this ${kind} is proved to be of the target's class, before rounding to 8 bits, with a ` +
        `margin of at least ${Number(found.margin.toPrecision(4))} logits.`
      : `${share} of this ${kind} is proved to be of the target's class; of ${found.cells.length} cells ` +
        `${counted("open")} are open, and in ${counted("violated")} the middle is of another class.`;
    drawing.setAttribute("aria-label", summary.textContent);
    drawing.removeAttribute("hidden"); // SVG elements have no such property.
    button.textContent = found.is_done ? "Prove it" : "Go on with the proof";
    section.dataset.proofs = String(Number(section.dataset.proofs ?? 0) + 1);
  }

  for (const choice of choices) {
    choice.addEventListener("change", () => { button.textContent = "Prove it"; });
  }
  section.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      show(await ask("api/faces", { method: "POST", body: JSON.stringify({ vertices: chosen() }) }));
      problem.textContent = "";
    } catch (error) {
      problem.textContent = error.message;
    }
    button.disabled = false;
  });
})();
