"""Polytopes in memory: vertices that collide with a target, and all that can be asked of them."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import nn

from patchcollide.composition.contributions import Contributions
from patchcollide.config import Config
from patchcollide.config_files import parse_recorded
from patchcollide.errors import RunError
from patchcollide.evaluation.claims import EdgeWalks, walk_edges
from patchcollide.evaluation.evaluate import Collision
from patchcollide.evaluation.membership import Membership
from patchcollide.evaluation.samples import HullSamples, load_samples, save_samples
from patchcollide.evaluation.simplex import hull_images, uniform_weights
from patchcollide.evaluation.summary import Ending, ExactRecord, Summary
from patchcollide.images.pictures import read_png, write_png
from patchcollide.images.tensors import as_batch, mean_distance
from patchcollide.io.files import output_path, write_json
from patchcollide.io.provenance import array_digest
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.optimisation.vertices import FoundVertices
from patchcollide.proofs.provable import Provable
from patchcollide.randomness import Purpose, seeded
from patchcollide.report.notebook import Plotted, polytope_html, shown
from patchcollide.retrieval.neighbours import Neighbours
from patchcollide.runs.folder import (
    CONFIG_FILE,
    CONTRIBUTIONS_FILE,
    EXACT_FILE,
    SAMPLES_FILE,
    SUMMARY_FILE,
    Run,
    RunRecord,
    new_run,
    open_run,
)
from patchcollide.runs.inputs import write_pair
from patchcollide.runs.networks import network_of, network_of_own, require_same_network
from patchcollide.runs.report import write_neighbour_sheet, write_report
from patchcollide.runs.summary import (
    SummaryOptions,
    read_exact,
    read_run_target,
    read_summary,
    summarise,
)
from patchcollide.runs.vertices import (
    load_history,
    load_vertex_pngs,
    load_vertices,
    require_one_shape,
    save_found,
)
from patchcollide.shapes import Float32, UInt8, ndarray
from patchcollide.store.reader import PatchStore
from patchcollide.torch_modes import proof_modes

__all__ = ["Polytope"]


@dataclass(eq=False, repr=False)
class Polytope(Membership, Provable, Plotted):
    """The convex hull of images that collide with a target.

    Made by :func:`patchcollide.find_polytope`, or by :meth:`load` from its folder or a run's.

    Attributes:
        about: Settings, inputs and versions, as ``config.json`` holds them.
        source: The source as the network saw it.
        target_picture: The target as the network saw it; None if it was given as features.
        vertices: 8-bit images, as the PNG files hold them.
        unrounded: The same before rounding, 0 to 255.
        state: How the descent ended.
        history: One row a step of the descent; see ``history.csv``.
        neighbours: What vertices are composed of; None of free pixels.
        exact: What linear programs said of the vertices; None if none were solved.
        summary: What :meth:`evaluate` measured last; None if nothing was.
        samples: The samples it measured, by kind; see :mod:`patchcollide.evaluation.samples`.
        contributions: Which neighbours pixels come from; None of free pixels.
    """

    about: RunRecord
    source: UInt8[ndarray, "height width channels"]
    target_picture: UInt8[ndarray, "height width channels"] | None
    vertices: UInt8[ndarray, "vertices height width channels"]
    unrounded: Float32[ndarray, "vertices height width channels"]
    state: Ending
    history: list[dict[str, float]] = field(default_factory=list)
    neighbours: Neighbours | None = None
    exact: ExactRecord | None = None
    summary: Summary | None = None
    samples: dict[str, HullSamples] | None = None
    contributions: Contributions | None = None
    _network: CollisionNetwork | None = None
    _target: Target | None = None
    _run: Run | None = None

    @classmethod
    def load(
        cls, folder: str | Path, network: CollisionNetwork | nn.Module | None = None
    ) -> "Polytope":
        """Reads what :meth:`save` or ``patchcollide collide`` wrote.

        Args:
            folder: A finished run's folder.
            network: The network it was made with, or its module, which stays as it is; None to
                build it by its name when it is needed.

        Raises:
            RunError: If there is no whole run, or the network is another.
        """
        run = open_run(Path(folder))
        if isinstance(network, nn.Module):
            network = network_of_own(run, network)
        if network is not None:
            require_same_network(run, network)
        unrounded, state = load_vertices(run)
        vertices, composed = load_vertex_pngs(run), run / "neighbours.h5"
        samples, contributions = run / SAMPLES_FILE, run / CONTRIBUTIONS_FILE
        require_one_shape(run, vertices, unrounded)
        return cls(
            about=run.about,
            source=read_png(run / "source.png"),
            target_picture=None if run.target_file == "target.h5" else read_png(run / "target.png"),
            vertices=vertices,
            unrounded=unrounded,
            state=state,
            history=load_history(run),
            neighbours=Neighbours.load(composed) if composed.exists() else None,
            exact=read_exact(run),
            summary=shown(read_summary(run)) if (run / SUMMARY_FILE).exists() else None,
            samples=load_samples(samples, array_digest(vertices)) if samples.exists() else None,
            contributions=(
                Contributions.load(contributions, run.fingerprint)
                if contributions.exists()
                else None
            ),
            _network=network,
            _run=run,
        )

    @cached_property
    def config(self) -> Config:
        """The settings it was made with."""
        return parse_recorded(self.about["config"], "the settings of the polytope")

    @property
    def network(self) -> CollisionNetwork:
        """The network it was made with; one that is named in a folder is built when first needed.

        Raises:
            RunError: If it cannot be built from its name, or its weights are others now.
            NetworkError: If the network cannot be had.
        """
        if self._network is None:
            if self._run is None:
                raise RunError("This polytope has no network. Load it with network=...")
            self._network = network_of(self._run)
        return self._network

    @property
    def target(self) -> Target:
        """What the vertices were to collide with; errors as of :attr:`network`."""
        if self._target is None:
            if self._run is None:
                raise RunError("This polytope has no target. Load it from its folder.")
            self._target = read_run_target(self._run, self.network)
        return self._target

    @property
    def verdict(self) -> str | None:
        """What :meth:`evaluate` calls the collision, with its numbers; None of one not measured."""
        found = self.summary
        return found["tightness"]["sentence"] if found and "tightness" in found else None

    @property
    def distance(self) -> float:
        """The mean L2 distance of two vertices, in 0..255; 0 of a single one."""
        return mean_distance(as_batch(self.vertices))

    def __repr__(self) -> str:
        return f"Polytope({len(self)} vertices, {self._where}, {self.state['steps']} steps)"

    @property
    def _where(self) -> str:
        inputs = self.about["inputs"]
        return f"{inputs['network']}, {inputs['layer']}, {inputs['parameterisation']}"

    def __len__(self) -> int:
        return len(self.vertices)

    @proof_modes()
    def sample(
        self, num_samples: int, seed: int | None = None
    ) -> UInt8[ndarray, "samples height width channels"]:
        """Draws images uniformly from between the vertices, rounded to 8 bits.

        Args:
            num_samples: How many.
            seed: Decides which; None for those that :meth:`evaluate` measures, where as many.
        """
        generator = seeded(self.config.seed if seed is None else seed, Purpose.HULL)
        weights = uniform_weights(num_samples, len(self.vertices), generator)
        return hull_images(weights, self.vertices)

    @proof_modes()
    def walk(self, num_edges: int | None = None, max_pieces: int = 64) -> EdgeWalks:
        """Looks for the smallest margin of the target's class on the edges between the vertices.

        Args:
            num_edges: How many edges to walk, those that come nearest to failing; None for all.
            max_pieces: How many linear pieces of an edge to walk at most.

        Raises:
            NetworkError: If the network is not piecewise linear.
        """
        return walk_edges(
            self.network,
            as_batch(self.vertices),
            self.target.class_index,
            num_edges=num_edges,
            max_pieces=max_pieces,
        )

    @proof_modes()
    def evaluate(
        self, num_samples: int | None = None, images: str | Path | PatchStore | None = None
    ) -> Summary:
        """Measures the polytope as a run's ``summary.json`` does; kept as :attr:`summary`.

        Args:
            num_samples: How many points between the vertices; None for ``evaluation.num_samples``.
            images: A folder of images or a store, for the distances between random images and how
                nearly these collide.

        Raises:
            ImageError: If the folder holds no images.
        """
        settings = self.config.model_dump(mode="json")
        if num_samples is not None:
            settings["evaluation"]["num_samples"] = num_samples
        omissions = vars(self.neighbours.omissions) if self.neighbours else None
        measured, samples = summarise(
            {**self.about, "config": settings},
            Collision(self.network, self.source, self.target, self.vertices, self.unrounded),
            {**self.state, "neighbours": omissions, "exact": self.exact},
            SummaryOptions(Path(images) if isinstance(images, str) else images, self.summary),
        )
        self.summary = shown(measured)
        null = {kind: part for kind, part in (self.samples or {}).items() if kind == "null"}
        self.samples = null | samples
        return self.summary

    def save(self, folder: str | Path) -> Path:
        """Writes a run's folder, which :meth:`load` and the command line read.

        The page and the figure are drawn if the polytope was evaluated.

        Args:
            folder: New, or empty.

        Returns:
            The folder.

        Raises:
            RunError: If something is there.
            DiskFullError: If the disk is full.
        """
        run = new_run(output_path(Path(folder)), self.about)
        try:
            self._write(run)
        except BaseException:
            run.discard()
            raise
        self._run = run.finish()
        return run.final

    def _write(self, run: Run) -> None:
        write_json(run / CONFIG_FILE, self.about)
        if self.target_picture is None:
            write_pair(run, self.network, self.source, self.target)
        else:
            write_png(run / "source.png", self.source)
            write_png(run / "target.png", self.target_picture)
        save_found(run, FoundVertices(self.unrounded, self.state, self.history, self.contributions))
        if self.neighbours is not None:
            store = str(run.about["identity"]["store"] or "")
            settings = self.config.model_dump(mode="json")
            path = run / "neighbours.h5"
            self.neighbours.save(path, settings=settings, seed=self.config.seed, store=store)
            positions = self.config.grid.num_positions
            write_neighbour_sheet(path.with_suffix(".png"), self.neighbours, positions)
        if self.exact is not None:
            write_json(run / EXACT_FILE, self.exact)
        if self.samples is not None:
            save_samples(run / SAMPLES_FILE, self.samples, array_digest(self.vertices))
        if self.summary is not None:
            write_json(run / SUMMARY_FILE, self.summary)
            write_report(run)

    def _repr_html_(self) -> str:
        return polytope_html(
            source=self.source,
            target=self.target_picture,
            vertices=self.vertices,
            distance=self.distance,
            where=self._where,
            state=self.state,
            summary=self.summary,
        )
