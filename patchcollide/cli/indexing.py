"""Commands that make and keep stores, and photographs to try them with.

What takes seconds to import is imported by the command that needs it: ``--help`` should not wait.
"""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

from patchcollide import progress
from patchcollide.cli.framework import (
    Argument,
    BackendChoice,
    Memory,
    Option,
    Settings,
    command,
    echo,
)

Images = Annotated[
    Path,
    Argument(
        help="A folder of images, class/file or flat; or tar archives (ImageNet's tar of tars, "
        "WebDataset's shards) or Parquet files: one, a folder of them, or a pattern such as "
        "'train-{0000..0146}.tar'."
    ),
]
Classes = Annotated[
    str | None, Option("--where", help="Take these classes alone.", metavar="CLASS,CLASS")
]


@command
def photographs(
    out: Annotated[Path, Option(help="The folder to write: NAME/NAME-NUMBER.png.")],
    cuts: Annotated[
        int, Option(min=0, help="Squares cut out of each photograph, beside the whole of it.")
    ] = 24,
) -> None:
    """Writes the photographs that come inside scikit-image and scikit-learn, and cuts of them."""
    from patchcollide.images.photographs import write_photographs
    from patchcollide.io.files import output_path

    write_photographs(output_path(out), cuts=cuts)
    echo(out)


@command
def index(
    images: Images,
    out: Annotated[Path, Option(help="The store's folder.")],
    fraction: Annotated[float | None, Option(help="Share of each class to take.")] = None,
    classes: Classes = None,
    extend: Annotated[
        bool, Option("--extend", help="Add images that are new in the folder to the store.")
    ] = False,
    *,
    where: BackendChoice,
    given: Settings,
    memory: Memory = None,
) -> None:
    """Cuts images into a patch store and indexes its patches."""
    from patchcollide import pipeline

    settings = _with_fraction(given, fraction).read()
    pipeline.index(settings, images, out, memory, extend, where.read(), classes)
    echo(out)


@command
def plan(
    images: Images,
    out: Annotated[Path, Option(help="Where the store would lie; nothing is left there.")] = Path(),
    fraction: Annotated[float | None, Option(help="Share of each class to take.")] = None,
    classes: Classes = None,
    memory: Memory = None,
    queries: Annotated[int, Option(min=1, help="How many patches a search looks for.")] = 289,
    images_count: Annotated[
        int | None, Option(min=1, help="Plan for so many images, instead of those found.")
    ] = None,
    gpu: Annotated[bool, Option("--gpu", help="Say what searches take on a GPU.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
    *,
    given: Settings,
) -> None:
    """Says what indexing images would cost: disk, memory, time; measures some seconds for it."""
    from patchcollide import pipeline
    from patchcollide.errors import InputError

    settings = _with_fraction(given, fraction).read()
    made = pipeline.plan(
        settings,
        images,
        out,
        memory=memory,
        queries=queries,
        num_images=images_count,
        gpu=gpu,
        classes=classes,
    )
    if as_json:
        echo(json.dumps(asdict(made), indent=2))
    else:
        echo("\n".join(made.summary()))
        progress.print_table(("stage", "memory", "time"), made.rows())
    if made.problem:
        raise InputError(made.problem)


@command
def export(
    store: Annotated[Path, Argument(help="A store made by `patchcollide index`.")],
    out: Annotated[
        Path,
        Option(help="The HDF5 file. If it takes several: FILE-00000.h5, FILE-00001.h5 ..."),
    ],
    compress: Annotated[bool, Option("--compress", help="Compress with gzip.")] = False,
    patches_per_shard: Annotated[
        int, Option(min=1, help="How many patches a file holds at most.")
    ] = 1_000_000,
) -> None:
    """Writes a store's patches into plain HDF5 files: `patches` (N, 32, 32, 3) and `ids`."""
    from patchcollide import pipeline

    for path in pipeline.export(store, out, compress=compress, patches_per_shard=patches_per_shard):
        echo(path)


@command
def verify(
    store: Annotated[Path, Argument(help="A store made by `patchcollide index`.")],
    quick: Annotated[
        bool, Option("--quick", help="Leave out the pixels and the FAISS index.")
    ] = False,
) -> None:
    """Finds every damaged file of a store and its index."""
    from patchcollide import pipeline

    found = pipeline.verify(store, quick)
    for damage in found.damages:
        echo(f"{damage.file} {damage.what}. {found.remedy}")
    found.require_intact()
    echo(found)


@command
def repair(
    store: Annotated[Path, Argument(help="A store made by `patchcollide index`.")],
    images: Annotated[
        Path | None, Option(help="The images, if they are no longer where they were.")
    ] = None,
) -> None:
    """Makes damaged parts of a store again from its images, and nothing else."""
    from patchcollide import pipeline

    echo(pipeline.repair(store, images))


def _with_fraction(given: Settings, fraction: float | None) -> Settings:
    added = [] if fraction is None else [f"store.fraction={fraction}"]
    return replace(given, overrides=[*(given.overrides or []), *added])
