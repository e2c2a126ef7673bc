"""Settings: what is accepted, what is refused, and how the refusal helps."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchcollide.config import Config, Section
from patchcollide.config_files import builtin_config, load_config, overrides_of, parse_config
from patchcollide.errors import ConfigError
from patchcollide.geometry import Canvas, PatchGrid

SECTIONS = sorted(
    name for name in Config.model_fields if isinstance(getattr(Config(), name), Section)
)
SETTINGS = sorted(
    f"{section}.{key}"
    for section in SECTIONS
    for key in type(getattr(Config(), section)).model_fields
)


def setting(config: Config, name: str) -> object:
    value: object = config
    for key in name.split("."):
        value = getattr(value, key)
    return value


@pytest.mark.parametrize("name", [*SETTINGS, *SECTIONS, "seed", "allow_same_image"])
def test_a_misspelt_setting_is_refused_and_the_right_one_suggested(name):
    misspelt = f"{name}x"
    with pytest.raises(ConfigError, match=f"unknown setting {misspelt}; did you mean") as caught:
        load_config(overrides=[f"{misspelt}=1"])
    suggested = str(caught.value).split("did you mean ")[1].rstrip("?")
    # Of names as short as "retrieval.k" another may be as close.
    assert suggested == name or len(name.split(".")[-1]) < 3


def test_a_setting_of_another_section_is_suggested_with_its_section():
    with pytest.raises(ConfigError, match=r"unknown setting index\.k; did you mean retrieval\.k\?"):
        load_config(overrides=["index.k=3"])


def test_a_setting_like_no_other_is_refused_with_all_that_are_known():
    with pytest.raises(ConfigError, match=r"unknown setting zzz; known are ") as caught:
        load_config(overrides=["zzz=1"])
    assert all(name in str(caught.value) for name in SETTINGS)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("retrieval.k=many", r"retrieval\.k = 'many': input should be a valid integer"),
        ("retrieval.k=5.5", r"retrieval\.k = 5\.5: input should be a valid integer"),
        ("retrieval.k=[5]", r"retrieval\.k = \[5\]: input should be a valid integer"),
        ("allow_same_image=perhaps", r"allow_same_image = 'perhaps': input should be a valid bool"),
        ("network.name=2024-01-01", r"network\.name = .*: input should be a valid string"),
        ("network.name=5", r"network\.name = 5: input should be a valid string"),
        ("retrieval.exclude=cats", r"retrieval\.exclude = 'cats': input should be a valid tuple"),
        ("retrieval.exclude=[1]", r"retrieval\.exclude\.0 = 1: input should be a valid string"),
        ("images=5", r"images = 5: input should be a valid dictionary"),
        ("images.fit=stretch", r"images\.fit = 'stretch': input should be 'crop' or 'squash'"),
        (
            "retrieval.engine=dci",
            r"retrieval\.engine = .dci.: input should be .auto., .ann., .certified. or .exact.",
        ),
    ],
)
def test_a_mistyped_setting_is_refused_with_its_value(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=[override])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("images.size_px", "7", "greater than or equal to 8"),
        ("images.max_pixels", "0", "greater than or equal to 1"),
        ("patches.window_px", "0", "greater than or equal to 1"),
        ("store.fraction", "0", "greater than 0"),
        ("store.fraction", "1.001", "less than or equal to 1"),
        ("store.fraction", "nan", "less than or equal to 1"),
        ("store.images_per_shard", "0", "greater than or equal to 1"),
        ("index.components", "1025", "less than or equal to 1024"),
        ("retrieval.k", "-1", "greater than or equal to 1"),
        ("network.min_confidence", "-0.1", "greater than or equal to 0"),
        ("network.min_confidence", "1.1", "less than or equal to 1"),
        ("objective.active", "-1", "greater than or equal to 0"),
        ("objective.active", "inf", "finite number"),
        ("objective.diversity", "nan", "finite number"),
        ("objective.hull_samples", "-1", "greater than or equal to 0"),
        ("optimiser.num_vertices", "65", "less than or equal to 64"),
        ("optimiser.learning_rate", "0", "greater than 0"),
        ("optimiser.learning_rate", "inf", "finite number"),
        ("evaluation.num_samples", "0", "greater than or equal to 1"),
        ("seed", "-1", "greater than or equal to 0"),
        ("seed", str(2**63), f"less than {2**63}"),
        ("seed", "9" * 5000, "integer"),
        ("seed", "[" * 100_000, "valid integer"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_the_range(name, value, message):
    with pytest.raises(ConfigError, match=f"{re.escape(name)} = .*: .*{re.escape(message)}"):
        load_config(overrides=[f"{name}={value}"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "0"),
        ("seed", str(2**63 - 1)),
        ("store.fraction", "1"),
        ("index.components", "1024"),
        ("optimiser.num_vertices", "64"),
        ("network.min_confidence", "0"),
        ("objective.total_variation", "0"),
    ],
)
def test_the_ends_of_a_range_belong_to_it(name, value):
    assert setting(load_config(overrides=[f"{name}={value}"]), name) == float(value) or (
        setting(load_config(overrides=[f"{name}={value}"]), name) == int(value)
    )


@pytest.mark.parametrize(
    ("override", "name", "expected"),
    [
        ("retrieval.k=3", "retrieval.k", 3),
        (" retrieval.k = 3 ", "retrieval.k", 3),
        ("images.max_pixels=1_000", "images.max_pixels", 1000),
        ("store.fraction=1e-1", "store.fraction", 0.1),
        ("allow_same_image=true", "allow_same_image", True),
        ("network.name=vgg16", "network.name", "vgg16"),
        ('network.name="vgg16"', "network.name", "vgg16"),
        ("network.name='5'", "network.name", "5"),
        ("network.weights=a=b", "network.weights", "a=b"),
        ("network.layer=", "network.layer", ""),
        ("network.weights=/data/my nets/é.npz", "network.weights", "/data/my nets/é.npz"),
        ("network.layer=1\nseed = 2", "network.layer", "1\nseed = 2"),
        ('retrieval.exclude=["a/*", "b"]', "retrieval.exclude", ("a/*", "b")),
        ("retrieval.exclude=[]", "retrieval.exclude", ()),
    ],
)
def test_overrides_hold_toml_values_or_bare_strings(override, name, expected):
    assert setting(load_config(overrides=[override]), name) == expected


@pytest.mark.parametrize("override", ["retrieval.k", "", "=3", ".k=3", "retrieval.=3", "a..b=3"])
def test_an_override_of_another_form_is_refused_with_an_example(override):
    with pytest.raises(ConfigError, match=r"expected section\.key=value, for example --set retr"):
        load_config(overrides=[override])


def test_an_override_below_a_value_is_refused():
    with pytest.raises(ConfigError, match=r"--set seed\.x=1: 'seed' is a value, not a section"):
        load_config(overrides=["seed=1", "seed.x=1"])


def test_later_overrides_win_over_earlier_ones_and_over_the_file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("seed = 1\n[retrieval]\nk = 2\nleak_guard = false\n")
    config = load_config(path, ["retrieval.k=3", "retrieval.k=4"])
    assert (config.seed, config.retrieval.k, config.retrieval.leak_guard) == (1, 4, False)


def test_an_error_names_every_override_as_any_may_be_the_cause():
    with pytest.raises(ConfigError, match=r"the defaults --set retrieval\.k=0 --set seed=1: retr"):
        load_config(overrides=["retrieval.k=0", "seed=1"])


def test_all_problems_are_told_at_once(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("sed = 1\n[retrieval]\nk = 0\n[store]\nfraction = 2\n")
    with pytest.raises(ConfigError, match=re.escape(str(path))) as caught:
        load_config(path)
    for part in ("retrieval.k = 0", "store.fraction = 2", "unknown setting sed"):
        assert part in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml is missing. Check the path given to --conf"):
        load_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "content",
    [b"seed = ", b"[images\n", b"\xff\xfe", b"seed = 1\nseed = 2", b"seed = " + b"9" * 5000],
)
def test_a_file_that_is_not_toml_is_refused(tmp_path, content):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.toml is not a readable TOML file: "):
        load_config(tmp_path / "a.toml")


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"is not a readable TOML file: .*directory"):
        load_config(tmp_path)


@pytest.mark.parametrize("path", sorted(builtin_config("demo").parent.glob("*.toml")), ids=str)
def test_every_config_that_ships_loads(path):
    assert builtin_config(path.stem) == path
    assert load_config(path) != Config()


def test_section4_has_the_geometry_and_neighbours_of_the_paper():
    config = load_config(builtin_config("section4"))
    assert config.grid == PatchGrid(224, 32, 12, 32)
    assert config.grid.num_positions == 289
    assert (config.retrieval.k, config.retrieval.query_stride_px) == (10, 12)
    assert config.store.fraction == 0.1
    assert (config.network.name, config.network.layer) == ("vgg16", "fc6")


def test_windows_that_do_not_fit_the_image_are_refused_by_the_name_of_the_setting():
    with pytest.raises(ConfigError, match=r"leave the border .* Choose patches\.stride_px"):
        load_config(overrides=["patches.stride_px=5"])


def test_queries_that_do_not_fit_the_image_are_refused_by_the_name_of_their_own_setting():
    with pytest.raises(ConfigError, match=r"Choose retrieval\.query_stride_px so that") as caught:
        load_config(overrides=["retrieval.query_stride_px=5"])
    assert "patches.stride_px" not in str(caught.value)


def test_settings_cannot_change():
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 1  # type: ignore[misc]


VARIOUS = [
    [],
    ["seed=5", "allow_same_image=true"],
    ["images.size_px=32", "patches.window_px=8", "patches.stride_px=4", "patches.patch_px=4",
     "retrieval.query_stride_px=2"],
    ['retrieval.exclude=["a/*", "b \\" c"]', "retrieval.k=1"],
    ["objective.active=1e-5", "optimiser.stop_distance=1e22", "store.fraction=0.1"],
]  # fmt: skip


@pytest.mark.parametrize("overrides", VARIOUS, ids=len)
def test_overrides_of_a_config_lead_back_to_it(overrides):
    config = load_config(overrides=overrides)
    assert load_config(None, overrides_of(config)) == config


@pytest.mark.parametrize("path", sorted(builtin_config("demo").parent.glob("*.toml")), ids=str)
def test_overrides_of_a_config_that_ships_lead_back_to_it(path):
    config = load_config(path)
    assert load_config(None, overrides_of(config)) == config


def test_the_defaults_need_no_overrides():
    assert overrides_of(Config()) == []


@settings(max_examples=50, deadline=None)
@given(st.text(), st.floats(0, 1, exclude_min=True), st.lists(st.text(), max_size=3))
def test_overrides_carry_any_text_and_number(text, share, patterns):
    config = parse_config(
        {
            "network": {"weights": text},
            "store": {"fraction": share},
            "retrieval": {"exclude": patterns},
        },
        "here",
    )
    assert load_config(None, overrides_of(config)) == config


@pytest.mark.parametrize("overrides", VARIOUS, ids=len)
def test_a_config_comes_back_from_its_json(overrides):
    config = load_config(overrides=overrides)
    stored = json.loads(json.dumps(config.model_dump(mode="json")))
    assert parse_config(stored, "config.json") == config


def test_stored_settings_of_another_kind_are_refused_by_place():
    with pytest.raises(ConfigError, match=r"^run/config\.json: seed = 'x': input should be"):
        parse_config({"seed": "x"}, "run/config.json")


def test_a_config_knows_its_grid():
    config = load_config(overrides=VARIOUS[2])
    assert config.grid == PatchGrid(32, 8, 4, 4)


def test_a_builtin_config_that_is_not_there_is_missing():
    assert not builtin_config("none").exists()
    assert isinstance(builtin_config("none"), Path)


@pytest.mark.parametrize("path", sorted(builtin_config("demo").parent.glob("*.toml")), ids=str)
def test_every_file_of_settings_has_a_geometry_that_can_be_composed(path):
    config = load_config(path)
    queries = config.grid.with_stride(config.retrieval.query_stride_px)
    canvas = Canvas.of(queries, config.composition.margin_px)
    assert config.composition.coefficient_size <= canvas.support
    assert canvas.positions_per_side**2 == queries.num_positions


def test_the_authors_settings_are_those_of_the_released_code():
    config = load_config(builtin_config("section4_authors"))
    queries = config.grid.with_stride(config.retrieval.query_stride_px)
    assert (config.grid.num_positions, queries.num_positions, queries.dimension) == (289, 625, 3072)
    canvas = Canvas.of(queries, config.composition.margin_px).shrunk(224)
    assert canvas == Canvas(224, 56, 7, 28)
    assert config.composition.coefficient_size == canvas.support
    assert config.composition.neighbours == 1


def test_a_margin_wider_than_an_image_is_refused():
    with pytest.raises(ConfigError, match=r"margin of 225 pixels .* composition\.margin_px to 0"):
        load_config(overrides=["composition.margin_px=225"])


def test_composing_more_neighbours_than_are_retrieved_is_refused():
    with pytest.raises(ConfigError, match=r"composition\.neighbours = 11, but only retrieval\.k"):
        load_config(overrides=["composition.neighbours=11"])
