"""The network that a run was made with, built again or given; refused if it is another now."""

from torch import nn

from patchcollide.errors import RunError
from patchcollide.networks.loading import load_network, network_of_module
from patchcollide.networks.network import CollisionNetwork
from patchcollide.runs.folder import Run


def network_of(run: Run) -> CollisionNetwork:
    """Builds the network a run was made with; RunError if its weights are others now.

    Of a network that was given in memory only the caller has the code.
    """
    config = run.config
    if run.inputs.get("network_given_as") == "object":
        raise RunError(
            f"{run.folder} was made in Python with a network of one's own ({config.network.name}), "
            "which no setting can name. Open it with that: patchcollide.Polytope.load(folder, "
            "network=...)."
        )
    network = load_network(config.network, config.seed)
    require_same_network(run, network)
    return network


def network_of_own(run: Run, module: nn.Module) -> CollisionNetwork:
    """Makes the network a run was made with of a module, which stays as it is.

    Raises:
        RunError: If its weights are others than the run's.
        NetworkError: If it cannot be used, or the run does not say what its images go through.
    """
    layer = run.about["identity"]["layer"]
    settings = run.config.network.model_copy(update={"layer": layer})
    if not settings.input_size:
        raise RunError(
            f"{run.folder} does not say what images of its network go through, as runs of before "
            f"do not. Give a CollisionNetwork of the module, at layer '{layer}'."
        )
    network = network_of_module(module, settings)
    require_same_network(run, network)
    return network


def require_same_network(run: Run, network: CollisionNetwork) -> None:
    """Raises :class:`RunError` if a run was made with other weights, or at another layer."""
    made_with = run.about["identity"]
    if network.layer != made_with["layer"]:
        raise RunError(
            f"{run.folder} was made at layer '{made_with['layer']}', but the network given shows "
            f"'{network.layer}'. Give it at that layer."
        )
    if network.digest != made_with["network"]:
        raise RunError(
            f"{run.folder} was made with other weights of {network.name} than the ones here "
            f"(digest {made_with['network'][:12]}, found {network.digest[:12]}). Use those."
        )
