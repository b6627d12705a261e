"""What benchmark_model prints, over its versions; the texts are those of real runs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egeunet.benchmarks.android.benchmark_output import Timing, read_timing
from egeunet.benchmarks.android.delegates import applied, unknown_flags
from egeunet.model.errors import InputError

TF_1_12 = """STARTING!
Num runs: [50]
Num threads: [1]
Loaded model mobilenet_v1_1.0_224_quant.tflite
resolved reporter
Initialized session in 4.452ms
Running benchmark for 1 iterations
count=1 curr=146161

Running benchmark for 50 iterations
count=50 first=137789 curr=137254 min=137079 max=143416 avg=137722 std=896

Average inference timings in us: Warmup: 146161, Init: 4452, no stats: 137722
"""
TF_2_4 = """#threads used for CPU inference: [4]
count=3 first=360262 curr=261000 min=261000 max=360262 avg=304586 std=40000

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150
count=50 first=249042 curr=250889 min=247067 max=254474 avg=249684 std=1442
Inference timings in us: Init: 16242, First inference: 360262, Warmup (avg): 304586, \
Inference (avg): 249684
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE.
Peak memory footprint (MB): init=4.92969 overall=138.809
"""
TF_2_12 = """INFO: count=6 first=81913 curr=55502 min=55502 max=81913 avg=58984.7 std=8115

INFO: count=1061 first=56576 curr=56299 min=54669 max=60236 avg=56265.8 std=982

INFO: Inference timings in us: Init: 3337, First inference: 81913, Warmup (avg): 58984.7, \
Inference (avg): 56265.8
INFO: Memory footprint delta from the start of the tool (MB): init=4.21094 overall=46.0859
INFO: Overall peak memory footprint (MB) via periodic monitoring: 93.2383
"""
LITERT = """I tflite  : count=1 curr=1357602 p5=1357602 median=1357602 p95=1357602

I tflite  : count=50 first=1249964 curr=1240143 min=1238588 max=1252566 avg=1.24027e+06 std=2565 \
p5=1238753 median=1239807 p95=1247415

I tflite  : Inference timings in us: Init: 5579, First inference: 1357602, Warmup (avg): \
1.3576e+06, Inference (avg): 1.24027e+06
I tflite  : Memory footprint delta from the start of the tool (MB): init=0 overall=0
"""
COMPILED = """INFO: [benchmark_litert_model.h:73]
========== BENCHMARK RESULTS ==========
INFO: [benchmark_litert_model.h:74] Model initialization: 84.13 ms
INFO: [benchmark_litert_model.h:75] Warmup (first):       90.10 ms
INFO: [benchmark_litert_model.h:77] Warmup (avg):         80.00 ms (7 runs)
INFO: [benchmark_litert_model.h:79] Inference (avg):      71.45 ms (14 runs)
INFO: [benchmark_litert_model.h:83] Inference (min):      70.00 ms
INFO: [benchmark_litert_model.h:85] Inference (max):      75.50 ms
INFO: [benchmark_litert_model.h:87] Inference (std):      1.20
INFO: [benchmark_litert_model.h:104] Overall footprint:    46.50 MB
INFO: [benchmark_litert_model.h:132] Peak memory:          427.64 MB
"""
EQUAL = """count=0
count=50 curr=8000(all same)
Inference timings in us: Init: 10, First inference: 0, Warmup (avg): -nan, Inference (avg): 8000
"""
MB = 1024 * 1024

VERSIONS = {
    "2018": (
        TF_1_12,
        Timing(137.722, 0.896, 137.079, 143.416, None, None, 50, 1, 4.452, 146.161, threads=1),
    ),
    "2020": (
        TF_2_4,
        Timing(
            249.684, 1.442, 247.067, 254.474, None, None, 50, 3, 16.242, 360.262,
            None, round(138.809 * MB), 4,
        ),
    ),
    "2023": (
        TF_2_12,
        Timing(
            56.2658, 0.982, 54.669, 60.236, None, None, 1061, 6, 3.337, 81.913,
            round(46.0859 * MB), round(93.2383 * MB),
        ),
    ),
    "2024": (
        LITERT,
        Timing(
            1240.27, 2.565, 1238.588, 1252.566, 1239.807, 1247.415, 50, 1, 5.579, 1357.602
        ),
    ),
    "compiled model": (
        COMPILED,
        Timing(
            71.45, 1.2, 70.0, 75.5, None, None, 14, 7, 84.13, 90.1,
            round(46.5 * MB), round(427.64 * MB),
        ),
    ),
    "equal times": (EQUAL, Timing(8.0, 0.0, 8.0, 8.0, 8.0, 8.0, 50, 0, 0.01, 0.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", VERSIONS)
def test_every_version_is_read(name: str) -> None:
    text, expected = VERSIONS[name]
    assert vars(read_timing(text)) == pytest.approx(vars(expected))


@pytest.mark.parametrize("name", VERSIONS)
def test_a_text_cut_anywhere_before_its_summary_is_refused(name: str) -> None:
    text = VERSIONS[name][0]
    end = max(text.find("nference timings in us"), text.find("Inference (avg):      7"))
    for length in range(0, end, 97):
        with pytest.raises(InputError, match="no timing of a version known here"):
            read_timing(text[:length])


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=300))
def test_any_other_text_is_one_line(text: str) -> None:
    with pytest.raises(InputError, match="known here") as caught:
        read_timing(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("average", ["0", "nan", "inf", "90000"])
def test_contradictions_are_refused(average: str) -> None:
    text = TF_1_12.replace("no stats: 137722", f"no stats: {average}")
    with pytest.raises(InputError, match="cannot be trusted"):
        read_timing(text)


def test_the_report_gets_no_percentile_that_was_not_printed() -> None:
    latency = read_timing(TF_2_4).to_latency(["throttled"])
    assert latency["average_ms"] == 249.684 and latency["flags"] == ["throttled"]
    assert [latency[key] for key in ("median_ms", "p90_ms", "p95_ms", "p99_ms")] == [None] * 4
    assert latency["samples_ms"] == []


GPU_ALL = """INFO: Created TensorFlow Lite delegate for GPU.
VERBOSE: Replacing 58 out of 58 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1
INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by the \
delegate.
"""
NNAPI_DECLINES = """INFO: NNAPI accelerators available: [google-edgetpu,nnapi-reference]
INFO: NNAPI delegate created.
VERBOSE: Replacing 31 out of 31 node(s) with delegate (TfLiteNnapiDelegate) node, yielding 1
INFO: Though NNAPI delegate is explicitly applied, the model graph will not be executed by the \
delegate.
"""
NO_GPU = """GPU acceleration is unsupported on this platform.
XNNPACK delegate created.
Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the \
delegate w/ 22 delegate kernels.
"""


@pytest.mark.parametrize(
    ("name", "output", "share", "nodes", "reason"),
    [
        ("gpu", GPU_ALL, "all", (58, 58), ""),
        ("gpu", GPU_ALL.replace("58 out", "54 out").replace("completely", "partially"),
         "part", (54, 58), ""),
        ("gpu", "Applied GPU delegate.\n", None, None, "does not say"),
        ("gpu", "INFO: Replacing 9 out of 9 node(s) with delegate (LITERT_CL) node", "all",
         (9, 9), ""),
        ("gpu", NO_GPU, "none", None, "the phone has no GPU delegate"),
        ("gpu", NNAPI_DECLINES, None, None, "does not say that GPU delegate took the graph"),
        ("nnapi", NNAPI_DECLINES, "none", (31, 31), "declined the graph; the CPU ran it"),
        ("nnapi", "NNAPI accelerators available: [nnapi-reference]\n" + GPU_ALL, "none", None,
         "no accelerator, only its CPU code"),
        ("nnapi", "WARN: Unconsumed cmdline flags: --use_nnapi=true\n", "none", None,
         "does not know --use_nnapi"),
        ("cpu", NO_GPU, "part", None, ""),
    ],
)  # fmt: skip
def test_an_accelerator_counts_only_where_it_ran(
    name: str, output: str, share: str | None, nodes: tuple[int, int] | None, reason: str
) -> None:
    found = applied(name, output)
    assert (found.share, found.nodes) == (share, nodes)
    assert reason in found.reason and bool(reason) == bool(found.reason)


def test_ignored_flags_are_found() -> None:
    line = "WARN: Unconsumed cmdline flags: --output_filepath=o.raw --num_threads=1\nINFO: x"
    assert unknown_flags(line) == ("--output_filepath", "--num_threads")
    assert unknown_flags("INFO: STARTING!") == ()
