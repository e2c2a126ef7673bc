"""The demo: a cat composed from other photographs collides with a cup of espresso."""

from pathlib import Path

from patchcollide import pipeline
from patchcollide.config import builtin_config, load_config
from patchcollide.photographs import photograph, write_photographs


def run_demo(out: Path) -> Path:
    """Indexes the libraries' photographs and makes a collision; does nothing when it is there.

    Args:
        out: The run's folder; photographs and store go beside it, as ``OUT-photographs`` and
            ``OUT-store``.

    Returns:
        ``out``.
    """
    config = load_config(builtin_config("demo"))
    photographs = out.with_name(f"{out.name}-photographs")
    store = out.with_name(f"{out.name}-store")
    write_photographs(photographs)
    pipeline.index(config, photographs, store)
    return pipeline.collide(config, photograph("chelsea"), photograph("coffee"), out, store)
