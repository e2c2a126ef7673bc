"use strict";
// Brings a run's page to life: everything it needs is in the page.
(() => {
  const { SimplexControl, Predictor, PixelInspector, pixelsOf } = window.patchcollide;

  function showPrediction(root, control, predictor, data) {
    const chance = root.querySelector(".chance");
    const verdict = root.querySelector(".verdict");
    const announced = root.querySelector(".announced");
    const marker = root.querySelector(".tour-chart .now");
    let waiting = 0;
    const show = () => {
      const { probability, classes } = predictor.at(control.weights);
      const named = [...classes].sort((a, b) => b[1] - a[1]);
      const name = data.classNames[named[0][0]];
      const mixed = named.length > 1 ? ` (${named[0][1]} of the nearest samples)` : "";
      chance.textContent = `Probability of ${data.targetName}: ${probability.toFixed(3)} ± ${data.error.toFixed(3)}`;
      verdict.textContent = `classified as ${name}${mixed}`;
      root.querySelector(".meter").style.width = `${(100 * probability).toFixed(1)}%`;
      const place = control.place === null ? "" : String(control.place);
      marker?.classList.toggle("away", control.place === null);
      if (place) marker?.style.setProperty("left", `${(100 * control.place) / (data.tour.length - 1)}%`);
      // Read out once it rests, not at every frame.
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        announced.textContent = `${name}, probability of ${data.targetName} ${probability.toFixed(3)}`;
      }, 400);
    };
    control.addEventListener("change", show);
    show();
  }

  async function start() {
    const root = document.getElementById("live");
    const data = JSON.parse(document.getElementById("page-data").textContent);
    // Two of them stand first, large.
    const pictures = [...document.querySelectorAll("img[data-vertex]")]
      .sort((one, other) => Number(one.dataset.vertex) - Number(other.dataset.vertex));
    const sprite = document.getElementById("sprite");
    await Promise.all([...pictures, ...(sprite ? [sprite] : [])].map((image) => image.decode()));
    root.hidden = false;
    const vertices = pictures.map(pixelsOf);
    const control = new SimplexControl(root, vertices, data);
    const source = document.querySelector("img[data-source]");
    await source.decode();
    const named = [["source", pixelsOf(source)],
      ...vertices.map((pixels, number) => [`vertex ${number}`, pixels])];
    new PixelInspector(root, control, { named, contributions: data.contributions, sprite });
    if (data.samples) showPrediction(root, control, new Predictor(data.samples), data);
    window.patchcollide.control = control;
    document.documentElement.dataset.ready = "yes";
  }

  start();
})();
