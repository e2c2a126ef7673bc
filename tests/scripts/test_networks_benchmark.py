"""The benchmark of networks: rows that are kept, and a table with the sentences that say no."""


def test_networks_are_tried_once_and_those_without_time_left_out(run, tmp_path):
    words = ["--out", tmp_path, "--size", 32, "--steps", 2]
    first = run("bench_networks", *words, "--names", "torchvision:squeezenet1_1")
    (row,) = first["rows"]
    assert (row["relu_like"], row["relu_like_usable"], row["others"]) == (26, 26, 0)
    assert (row["collision"], row["walk"], row["exact"]) == ("yes", "yes", "yes")
    assert (first["relu_like_of_torchvision"], first["of_them_usable"]) == (26, 26)
    names = ["torchvision:squeezenet1_1", "torchvision:alexnet"]
    again = run("bench_networks", *words, "--minutes", 0, "--names", *names)
    assert (again["rows"], again["tried"]) == ([row], "1 of 2")


def test_refusals_are_numbered_whatever_they_name(script):
    row = {
        "network": "torchvision:a",
        "size_px": 8,
        "relu_like": 3,
        "relu_like_usable": 3,
        "others": 0,
        "others_usable": 0,
        "collision": "yes",
        "walk": "Layer 'x' of torchvision:a is none.",
        "exact": "yes",
    }
    other = row | {"network": "torchvision:b", "walk": "Layer 'y' of torchvision:b is none."}
    lines = script("bench_networks").table(
        [row, other, {"network": "timm:c", "refused": "It is not there."}]
    )
    assert lines[2] == "| torchvision:a | 8 | 3 | 3 | 0 | 0 | yes | no (1) | yes | not tried |"
    assert lines[3].endswith("| yes | no (1) | yes | not tried |")
    assert lines[4] == "| timm:c | - | - | - | - | - | no (2) | - | - | - |"
    assert lines[-2:] == ["| 1 | Layer ... of ... is none. |", "| 2 | It is not there. |"]
