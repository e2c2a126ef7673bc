"use strict";
// The pixel under the pointer, or at the arrow keys: its values, and the patches it comes from.
(() => {
  const patchcollide = (window.patchcollide ??= {});

  /**
   * Returns the neighbours that add most to a block of a blended image, most first.
   *
   * `contributions` holds, for each vertex, block and place, the number of a patch (`patches`) and
   * its part in thousandths (`parts`).
   */
  function contributors(contributions, weights, row, col) {
    const { blocks, most } = contributions;
    const parts = new Map();
    weights.forEach((weight, vertex) => {
      const start = ((vertex * blocks + row) * blocks + col) * most;
      for (let place = start; weight > 0 && place < start + most; place += 1) {
        const patch = contributions.patches[place];
        const part = (weight * contributions.parts[place]) / 1000;
        parts.set(patch, (parts.get(patch) ?? 0) + part);
      }
    });
    return [...parts].sort((a, b) => b[1] - a[1]);
  }

  /** Follows the pointer and the arrow keys over a canvas, and describes what is there. */
  class PixelInspector {
    constructor(root, control, { named, contributions, sprite }) {
      Object.assign(this, { root, control, named, contributions, sprite });
      this.canvas = control.canvas;
      this.marker = root.querySelector(".marker");
      this.blocks = contributions?.blocks ?? Math.min(28, this.canvas.height);
      this.canvas.addEventListener("pointermove", (event) => this.point(event));
      this.canvas.addEventListener("pointerdown", (event) => this.point(event));
      this.canvas.addEventListener("keydown", (event) => this.key(event));
      control.addEventListener("change", () => this.describe());
      this.row = Math.floor(this.canvas.height / 2);
      this.col = Math.floor(this.canvas.width / 2);
      this.describe();
    }

    point(event) {
      const box = this.canvas.getBoundingClientRect();
      const share = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width];
      this.moveTo(share[0] * this.canvas.height, share[1] * this.canvas.width);
    }

    key(event) {
      const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      const step = steps[event.key];
      if (!step) return;
      event.preventDefault();
      const size = event.shiftKey ? 1 : this.canvas.height / this.blocks;
      this.moveTo(this.row + step[0] * size, this.col + step[1] * size);
    }

    moveTo(row, col) {
      this.row = Math.floor(Math.max(0, Math.min(row, this.canvas.height - 1)));
      this.col = Math.floor(Math.max(0, Math.min(col, this.canvas.width - 1)));
      this.describe();
    }

    block() {
      return [
        Math.floor((this.row * this.blocks) / this.canvas.height),
        Math.floor((this.col * this.blocks) / this.canvas.width),
      ];
    }

    describe() {
      const [row, col] = this.block();
      const size = 100 / this.blocks;
      Object.assign(this.marker.style, {
        top: `${row * size}%`, left: `${col * size}%`, width: `${size}%`, height: `${size}%`,
      });
      this.root.querySelector(".place").textContent = `row ${this.row}, column ${this.col}`;
      const shown = this.control.frame.data;
      const colours = [["here", shown], ...this.named];
      this.root.querySelector(".colours").replaceChildren(
        ...colours.map(([name, pixels]) => this.colour(name, pixels)));
      if (this.contributions) this.listPatches(row, col);
    }

    colour(name, pixels) {
      const start = 4 * (this.row * this.canvas.width + this.col);
      const values = [...pixels.slice(start, start + 3)];
      const item = document.createElement("li");
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = `rgb(${values.join(" ")})`;
      item.append(swatch, `${name} ${values.join(", ")}`);
      return item;
    }

    listPatches(row, col) {
      const { most, names, images, thumb, columns } = this.contributions;
      const all = contributors(this.contributions, this.control.weights, row, col);
      const listed = all.slice(0, most);
      const rest = 1 - listed.reduce((sum, [, part]) => sum + part, 0);
      const items = listed.map(([patch, part]) => {
        const item = document.createElement("li");
        const picture = document.createElement("canvas");
        picture.width = picture.height = thumb;
        const [left, top] = [(patch % columns) * thumb, Math.floor(patch / columns) * thumb];
        picture.getContext("2d").drawImage(this.sprite, left, top, thumb, thumb, 0, 0, thumb, thumb);
        item.append(picture, `${(100 * part).toFixed(1)} % ${names[images[patch]]}`);
        return item;
      });
      const others = document.createElement("li");
      others.textContent = `${(100 * Math.max(rest, 0)).toFixed(1)} % other patches`;
      this.root.querySelector(".patches").replaceChildren(...items, others);
    }
  }

  Object.assign(patchcollide, { PixelInspector, contributors });
})();
