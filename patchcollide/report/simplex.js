"use strict";
// The weights of a polytope's vertices: how they change, what image they make, and the control
// that sets them. Pages put the control's elements in place; see simplex.html.j2.
(() => {
  const patchcollide = (window.patchcollide ??= {});

  /** Returns weights with one of them set to a value of 0..1 and the others scaled, to sum to 1. */
  function withWeight(weights, index, value) {
    const rest = weights.reduce((sum, weight, place) => sum + (place === index ? 0 : weight), 0);
    return weights.map((weight, place) => {
      if (place === index) return weights.length > 1 ? value : 1;
      return rest > 0 ? (weight / rest) * (1 - value) : (1 - value) / (weights.length - 1);
    });
  }

  /** Returns weights divided by their sum. */
  function normalised(weights) {
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return weights.map((weight) => weight / sum);
  }

  /** Draws weights uniformly from the simplex: normalised exponential variables. */
  function randomWeights(count) {
    return normalised(Array.from({ length: count }, () => -Math.log(1 - Math.random())));
  }

  /**
   * Combines RGBA images of equal size into `out`, rounded to 8 bits with ties to even as the
   * polytope's samples are.
   */
  function blend(images, weights, out) {
    const used = images.map((image, place) => [image, weights[place]]).filter(([, w]) => w !== 0);
    for (let place = 0; place < out.length; place += 4) {
      for (let channel = place; channel < place + 3; channel += 1) {
        let value = 0;
        for (let one = 0; one < used.length; one += 1) value += used[one][0][channel] * used[one][1];
        // Storing into 8 clamped bits rounds, ties to even.
        out[channel] = value;
      }
      out[place + 3] = 255;
    }
  }

  /** Returns the weights at a place of a tour: between two of its points if it is no whole number. */
  function along(tour, place) {
    const first = tour[Math.floor(place)];
    const second = tour[Math.min(Math.floor(place) + 1, tour.length - 1)];
    const share = place - Math.floor(place);
    return first.map((weight, one) => (1 - share) * weight + share * second[one]);
  }

  /**
   * The control: a slider a vertex, a tour, buttons, and the canvas that shows the combination.
   * Sends "change" whenever the weights are others; then `weights` holds them and `place` the
   * place on the tour, or null beside it.
   */
  class SimplexControl extends EventTarget {
    constructor(root, images, { tour, legs, pointsPerLeg }) {
      super();
      Object.assign(this, { root, images, tour, legs, pointsPerLeg });
      this.canvas = root.querySelector("canvas.blend");
      this.context = this.canvas.getContext("2d");
      this.frame = this.context.createImageData(this.canvas.width, this.canvas.height);
      this.sliders = [...root.querySelectorAll("input.weight")];
      this.scrubber = root.querySelector("input.tour");
      this.playButton = root.querySelector("button.play");
      this.millisecondsPerLeg = 1500;
      this.playing = false;
      this.nextFrame = 0;
      this.listen();
      this.set(images.map(() => 1 / images.length));
    }

    listen() {
      this.sliders.forEach((slider, index) => {
        slider.addEventListener("input", () =>
          this.stopAndSet(withWeight(this.weights, index, Number(slider.value) / 1000)));
      });
      const count = this.images.length;
      this.on("button.centre", () => this.stopAndSet(Array(count).fill(1 / count)));
      this.on("button.random", () => this.stopAndSet(randomWeights(count)));
      this.root.querySelectorAll("button.vertex").forEach((button, index) =>
        button.addEventListener("click", () => this.stopAndSet(this.corner(index))));
      this.scrubber?.addEventListener("input", () => {
        this.stop();
        this.goTo(Number(this.scrubber.value));
      });
      this.playButton?.addEventListener("click", () => (this.playing ? this.stop() : this.play()));
    }

    on(selector, action) {
      this.root.querySelector(selector)?.addEventListener("click", action);
    }

    corner(index) {
      return this.images.map((_, place) => (place === index ? 1 : 0));
    }

    stopAndSet(weights) {
      this.stop();
      this.set(weights);
    }

    /** Shows a point of the polytope. */
    set(weights, place = null) {
      this.weights = normalised(weights);
      this.place = place;
      this.sliders.forEach((slider, index) => {
        const percent = `${(100 * this.weights[index]).toFixed(1)} %`;
        slider.value = String(Math.round(1000 * this.weights[index]));
        slider.setAttribute("aria-valuetext", percent);
        slider.parentElement.querySelector("output").textContent = percent;
      });
      blend(this.images, this.weights, this.frame.data);
      this.context.putImageData(this.frame, 0, 0);
      this.dispatchEvent(new Event("change"));
    }

    /** Shows a place of the tour, 0 to its number of points less one. */
    goTo(place) {
      this.scrubber.value = String(place);
      const leg = this.legs[Math.min(Math.floor(place / this.pointsPerLeg), this.legs.length - 1)];
      this.scrubber.setAttribute("aria-valuetext", leg);
      this.root.querySelector("output.leg").textContent = leg;
      this.set(along(this.tour, place), place);
    }

    /** Moves along the tour, from where its slider is or from its beginning, until it ends or is stopped. */
    play() {
      const last = this.tour.length - 1;
      let place = Number(this.scrubber.value) >= last ? 0 : Number(this.scrubber.value);
      let before = null;
      this.playing = true;
      this.playButton.textContent = "Pause the tour";
      const step = (now) => {
        const spent = before === null ? 0 : Math.min(now - before, 250);
        before = now;
        place = Math.min(place + (spent / this.millisecondsPerLeg) * this.pointsPerLeg, last);
        this.goTo(place);
        if (place < last) this.nextFrame = requestAnimationFrame(step);
        else this.stop();
      };
      // What says that it plays is on the tour already, before the browser draws a frame.
      this.goTo(place);
      this.nextFrame = requestAnimationFrame(step);
    }

    stop() {
      // Or a tour that is played again at once would be moved by both its old frames and its new ones.
      cancelAnimationFrame(this.nextFrame);
      this.playing = false;
      if (this.playButton) this.playButton.textContent = "Play the tour";
    }
  }

  /** Returns the RGBA bytes of an image element that has been loaded. */
  function pixelsOf(image) {
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height).data;
  }

  Object.assign(patchcollide, { SimplexControl, withWeight, normalised, blend, along, pixelsOf });
})();
