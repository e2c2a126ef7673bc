"""Summaries of runs, and pages as a reader finds them."""

import io
from html.parser import HTMLParser

import numpy as np
from PIL import Image


class Page(HTMLParser):
    """What a page holds: its text, its tags, and everything it refers to."""

    def __init__(self, html):
        super().__init__()
        self.html, self.text, self.tags, self.references, self.images = html, "", [], [], {}
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.text += " "
        for name in ("src", "href", "xlink:href", "srcset", "action", "poster", "data"):
            if name in attributes:
                self.references.append(attributes[name])
        if tag == "img":
            self.images[attributes["alt"]] = attributes["src"]

    def handle_data(self, text):
        self.text += text

    @property
    def words(self):
        return " ".join(self.text.split())


def random_images(rng, *shape):
    return rng.integers(0, 256, (*shape, 3), dtype=np.uint8)


def png_of(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="png")
    return file.getvalue()


def summary_of(num_vertices=2, **changes):
    vertex = {
        "class": 499,
        "class_name": "cleaver",
        "probability": 0.8125,
        "feature_distance": 4.56,
        "feature_distance_relative": 0.0321,
        "active_feature_gap_mean": 0.0123,
        "active_feature_gap_max": 0.456,
        "inactive_response_share": 0.0789,
        "inactive_response_max": 0.987,
    }
    summary = {
        "source": "photos/church.jpg",
        "target": "photos/cleaver.jpg",
        "network": "a network",
        "layer": "a.layer",
        "target_class": 499,
        "target_class_name": "cleaver",
        "target_probability": 0.9990,
        "source_class_name": "church",
        "source_probability": 0.9520,
        "parameterisation": "patches",
        "num_vertices": num_vertices,
        "num_samples": 1999,
        "success_rate": 0.9871,
        "success_interval": [0.9812, 0.9913],
        "sample_probability_mean": 0.8004,
        "sample_class_probability_mean": 0.7975,
        "success_rate_stick_breaking": 0.9934,
        "vertex_distance_mean": 7212.34,
        "vertex_distance_min": 6543.21,
        "dataset_distance_mean": 37538.22,
        "unrounded": {
            "success_rate": 0.9856,
            "sample_probability_mean": 0.8046,
            "vertex_distance_mean": 7210.98,
        },
        "vertices": [dict(vertex) for _ in range(num_vertices)],
        "steps": 317,
        "stopped_because": "a validation batch collided",
        "seconds": {"retrieve": 12.34, "optimise": 345.6},
        "peak_memory_bytes": 2_345_678_901,
        "seed": 1234,
        "versions": {"patchcollide": "0.0.9", "torch": "2.99.1"},
        "neighbours": {"leaked_images": 21, "excluded_images": 22, "num_else": 23},
    }
    return summary | changes


def tightness_of(verdict="feature collision", **changes):
    block = {
        "verdict": verdict,
        "sentence": "What was found, in a sentence",
        "gamma": 0.4,
        "asked": True,
        "hull": {
            "tau_mean": 0.335,
            "tau_quantile": 0.345,
            "tau_max": 0.3649,
            "cosine_mean": 0.943,
            "cosine_min": 0.932,
            "dead_share_mean": 0.154,
            "dead_share_max": 0.173,
            "false_responders_mean": 1506.2,
            "false_responders_max": 1670.0,
        },
        "active_units": 4507,
        "floor": 0.0298,
        "yardstick": {
            "target moved by 4 px": 0.271,
            "target mirrored": 0.687,
            "another image of its class": 0.98,
            "random images, median": 1.354,
        },
    }
    return block | changes


def history_of(num_steps):
    return [
        {
            "step": float(step),
            "loss": 10.0 * 0.9**step,
            "unit": 1.0 - step,
            "probability": 0.5,
            "distance": 100.0 * step,
            "validation_success": 0.5 if step % 2 else None,
            "validation_probability": 0.25 if step % 2 else "",
            "validation_distance": 90.0 * step if step % 2 else float("nan"),
        }
        for step in range(num_steps)
    ]
