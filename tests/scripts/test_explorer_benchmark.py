"""The explorer's benchmark, run as people run it."""

from tests.scripts.test_benchmarks import assert_knows_its_machine, run_script


def test_an_explorer_is_measured(explored_run):
    words = ["--seconds", 0.5, "--threads", 2, "--concurrent", 4, "--rounds", 2]
    document = run_script("bench_explorer", explored_run, *words)
    assert_knows_its_machine(document)
    # Each connection asks at least once, on a machine that is ever so busy.
    assert document["static_parts"]["requests"] >= 4
    assert document["points_at_once"]["requests"] == 8
    assert document["points_one_by_one"]["requests"] == 16
    for part in ("static_parts", "points_one_by_one", "points_at_once"):
        measured = document[part]
        assert measured["errors"] == 0
        assert measured["requests_per_second"] > 0
        spent = measured["milliseconds"]
        assert 0 < spent["best"] <= spent["median"] <= spent["95 %"] <= spent["worst"]
