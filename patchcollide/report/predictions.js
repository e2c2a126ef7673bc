"use strict";
// What the network would say between the points where it was asked; hull_samples.interpolate is
// the same in Python.
(() => {
  const patchcollide = (window.patchcollide ??= {});
  const NEAREST = 16;

  /**
   * Guesses from samples: `weights` one row a sample, `classes`, and `probabilities` of the
   * target's class.
   */
  class Predictor {
    constructor({ weights, classes, probabilities }) {
      this.numVertices = weights[0].length;
      this.weights = Float64Array.from(weights.flat());
      this.classes = classes;
      this.probabilities = probabilities;
    }

    /** Returns the numbers and squared distances of the nearest samples, nearest first. */
    nearest(point) {
      const found = [];
      const count = Math.min(NEAREST, this.classes.length);
      for (let sample = 0; sample < this.classes.length; sample += 1) {
        let square = 0;
        for (let vertex = 0; vertex < this.numVertices; vertex += 1) {
          square += (this.weights[sample * this.numVertices + vertex] - point[vertex]) ** 2;
        }
        if (found.length < count || square < found[count - 1].square) {
          let place = Math.min(found.length, count - 1);
          while (place > 0 && found[place - 1].square > square) {
            found[place] = found[place - 1];
            place -= 1;
          }
          found[place] = { sample, square };
        }
      }
      return found;
    }

    /** Returns the probability of the target's class, and how many of the nearest have each class. */
    at(point) {
      let total = 0;
      let value = 0;
      const classes = new Map();
      for (const { sample, square } of this.nearest(point)) {
        const influence = 1 / (square + 1e-12) ** 2;
        total += influence;
        value += influence * this.probabilities[sample];
        classes.set(this.classes[sample], (classes.get(this.classes[sample]) ?? 0) + 1);
      }
      return { probability: value / total, classes };
    }
  }

  Object.assign(patchcollide, { Predictor });
})();
