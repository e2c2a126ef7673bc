"""Commands that search stores, make runs and show them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from patchcollide.cli.framework import (
    Argument,
    BackendChoice,
    BadParameter,
    Engine,
    Exit,
    Option,
    Settings,
    SettingsFile,
    StorePath,
    command,
    echo,
)
from patchcollide.cli.hulls import HullOptions
from patchcollide.cli.network_options import NetworkChoice, RunCode

Device = Annotated[
    str | None, Option(help="Where the network and the descent compute: auto, cpu or cuda.")
]
DataImages = Annotated[
    Path | None,
    Option(
        "--images", help="A folder of the data set's images, to compare with.", metavar="FOLDER"
    ),
]
Source = Annotated[
    Path, Option(help="The image whose look is kept: a file, or imagenet:CLASS/NAME of the store.")
]
Target = Annotated[
    Path,
    Option(help="The image whose features are matched, likewise, or features: .h5 or .npz."),
]


SourceCrop = Annotated[
    str | None,
    Option("--crop", help="The square part of the source that is meant.", metavar="X,Y,SIDE"),
]
TargetCrop = Annotated[str | None, Option(help="The same of the target.", metavar="X,Y,SIDE")]


@dataclass(frozen=True)
class Origin:
    """Options for what images are made of."""

    store: Annotated[Path | None, Option(help="A store made by `patchcollide index`.")] = None
    neighbours: Annotated[
        Path | None, Option(help="Neighbours found before, in place of a store.")
    ] = None
    pixels: Annotated[bool, Option("--pixels", help="Vary pixels freely instead.")] = False

    def require_one(self) -> None:
        """Refuses none of the three, and several."""
        if [self.store is not None, self.neighbours is not None, self.pixels].count(True) != 1:
            raise BadParameter("give one of --store STORE, --neighbours FILE and --pixels.")


@command
def retrieve(
    images: Annotated[
        list[Path],
        Argument(help="The source image, or several: files, or imagenet:CLASS/NAME of the store."),
    ],
    store: StorePath,
    out: Annotated[Path, Option(help="The HDF5 file to write; of several images, a folder.")],
    engine: Engine = None,
    crop: SourceCrop = None,
    *,
    where: BackendChoice,
    given: Settings,
) -> None:
    """Finds the nearest patches for every location of an image, or of several at once."""
    from patchcollide import pipeline
    from patchcollide.runs.pictures import Crop

    settings = given.read({"retrieval.engine": engine})
    part = None if crop is None else Crop.parse(crop)
    echo(pipeline.retrieve(settings, images, store, out, where.read(), part))


@command
def import_neighbours(
    lists: Annotated[Path, Argument(help="The authors' .npz: finalidx, finalpos, finaldist.")],
    source: Annotated[Path, Option(help="The image that the lists are of.")],
    store: StorePath,
    out: Annotated[Path, Option(help="The HDF5 file to write, for collide --neighbours.")],
    order: Annotated[
        Path | None, Option(help="Names of the lists' images in the store, one a line, by number.")
    ] = None,
    keep: Annotated[
        int | None, Option(min=1, help="How many neighbours to keep; by default retrieval.k.")
    ] = None,
    unverified: Annotated[
        bool, Option("--unverified", help="Take lists that do not agree with the store.")
    ] = False,
    *,
    given: SettingsFile,
) -> None:
    """Takes over released lists of neighbours, after comparing their distances with a store."""
    from patchcollide import pipeline
    from patchcollide.retrieval.released_lists import ListOptions

    options = ListOptions(order, keep, unverified)
    echo(pipeline.import_neighbours(given.read(), lists, source, store, out, options))


@command
def collide(
    source: Source,
    target: Target,
    out: Annotated[Path, Option(help="The run's folder.")],
    *,
    origin: Origin,
    method: Annotated[
        str | None,
        Option(
            help="polytope; to compare: class, features, metamer, null_space, adversarial, "
            "level_set or plenoptic."
        ),
    ] = None,
    tightness: Annotated[
        float | None,
        Option(
            help="Bound on features, between 0 and 1: at most this far from the target's, as a "
            "share of theirs; vertices then move as far apart as it lets them.",
            metavar="GAMMA",
        ),
    ] = None,
    crop: SourceCrop = None,
    target_crop: TargetCrop = None,
    images: DataImages = None,
    chosen: NetworkChoice,
    device: Device = None,
    engine: Engine = None,
    where: BackendChoice,
    given: Settings,
) -> None:
    """Finds vertices that collide with a target, measures what lies between, and reports."""
    from patchcollide import pipeline
    from patchcollide.optimisation.methods.registry import require_bound
    from patchcollide.runs.pictures import Crop, Crops

    origin.require_one()
    if tightness is not None and not 0 < tightness < 1:
        raise BadParameter(
            f"--tightness should be a number between 0 and 1, such as 0.1, but is {tightness:g}."
        )
    options = {
        **chosen.options,
        "method": method,
        "objective.tightness": tightness,
        "network.device": device,
        "retrieval.device": device,
        "retrieval.engine": engine,
    }
    settings, backend = given.read(options), where.read()
    if tightness is not None:
        require_bound(settings)
    parts = [None if text is None else Crop.parse(text) for text in (crop, target_crop)]
    run = pipeline.collide(
        settings,
        source,
        target,
        out,
        origin.store,
        backend,
        origin.neighbours,
        images,
        Crops(*parts),
    )
    _show_run(run)


@command
def exact(
    target: Annotated[Path, Option(help="The image whose features are matched.")],
    out: Annotated[Path, Option(help="The run's folder.")],
    source: Annotated[
        Path | None, Option(help="An image to show vertices beside; by default the target.")
    ] = None,
    neighbours: Annotated[
        Path | None, Option(help="Compose these in place of free pixels; of the source.")
    ] = None,
    vertices: Annotated[
        str | None, Option(help="unit, random or far: where to look for vertices.")
    ] = None,
    images: DataImages = None,
    *,
    chosen: NetworkChoice,
    given: Settings,
) -> None:
    """Finds vertices exactly, by linear programs, at a layer that is affine in the image."""
    from patchcollide import pipeline

    settings = given.read({**chosen.options, "exact.vertices": vertices})
    run = pipeline.find_exact(
        settings, target, out, source=source, neighbours_path=neighbours, images=images
    )
    _show_run(run)


@command
def features(
    image: Annotated[Path, Argument(help="The image.")],
    out: Annotated[Path, Option(help="The HDF5 file to write, NAME.h5.")],
    *,
    chosen: NetworkChoice,
    given: Settings,
) -> None:
    """Writes an image's features at a layer, which `collide --target` takes in its place."""
    from patchcollide import pipeline

    echo(pipeline.extract_features(given.read(chosen.options), image, out))


@command
def evaluate(
    run: Annotated[Path, Argument(help="A finished run's folder.")], *, code: RunCode
) -> None:
    """Measures a run again, from its PNG files."""
    from patchcollide import pipeline

    del code
    pipeline.evaluate(run)
    _show_run(run)


@command
def certify(
    run: Annotated[Path, Argument(help="A finished run's folder.")],
    edges: Annotated[
        str, Option(help="How many edges to walk, those that come nearest to failing; or all.")
    ] = "all",
    max_breakpoints: Annotated[
        int, Option(min=1, help="How many linear pieces of an edge to walk at most.")
    ] = 64,
    images: Annotated[
        Path | None,
        Option(help="A folder or a store to take other images from, instead of the run's store."),
    ] = None,
    null_pairs: Annotated[
        int | None, Option(min=1, help="How many pairs of other images to measure at most.")
    ] = None,
    *,
    code: RunCode,
    hull: HullOptions,
) -> None:
    """Walks the edges between a run's vertices exactly, or proves what it can of its hull."""
    from patchcollide import pipeline
    from patchcollide.report.claims import claim_lines
    from patchcollide.runs.folder import open_run
    from patchcollide.runs.summary import read_summary

    if hull.is_asked():
        hull.prove(run)
        return
    if edges != "all" and not edges.isdecimal():
        raise BadParameter(f"--edges should be a number or all, but is {edges}.")
    del code
    pipeline.certify(
        run,
        images=images,
        num_pairs=null_pairs,
        num_edges=None if edges == "all" else int(edges),
        max_pieces=max_breakpoints,
    )
    for line in claim_lines(read_summary(open_run(run))):
        echo(line)
    echo(run / "report.html")


@command
def replay(
    run: Annotated[Path, Argument(help="A finished run's folder.")],
    out: Annotated[
        Path | None, Option(help="Keep what is made in this folder; by default nothing is kept.")
    ] = None,
    *,
    code: RunCode,
) -> None:
    """Makes a run again and compares every picture byte for byte.

    The exit code is 0 if all are identical, 1 if not, 2 if the run cannot be made again.
    """
    from patchcollide.runs.replay import replay

    del code
    found = replay(run, out)
    for line in found.lines():
        echo(line)
    if not found.identical:
        raise Exit(1)


@command
def compare(
    runs: Annotated[list[Path], Argument(help="Folders of finished runs.")],
    out: Annotated[Path | None, Option(help="A Markdown file to write as well.")] = None,
) -> None:
    """Prints the figures of several runs side by side, in Markdown."""
    from patchcollide import pipeline
    from patchcollide.io.files import output_path, write_text

    table = pipeline.compare(runs)
    if out is not None:
        write_text(output_path(out), table)
    echo(table)


@command
def report(
    run: Annotated[Path, Argument(help="A finished run's folder.")],
) -> None:
    """Draws a run's figure and page again."""
    from patchcollide import pipeline

    echo(pipeline.report(run))


@command
def demo(
    out: Annotated[Path, Option(help="The run's folder.")] = Path("runs/demo"),
) -> None:
    """Composes a cat that a network takes for espresso, from photographs inside the libraries."""
    from patchcollide.pipeline import run_demo

    _show_run(run_demo(out))


def _show_run(run: Path) -> None:
    """Prints a run's numbers to standard output, and where its page is."""
    from patchcollide.report.headlines import headline
    from patchcollide.runs.folder import open_run
    from patchcollide.runs.summary import read_summary

    for name, value in headline(read_summary(open_run(run))):
        echo(f"{name:<33} {value}")
    echo(run / "report.html")
