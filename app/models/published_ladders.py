"""What others have measured of quantizations, as data: the prior for a variant that was not measured here. Pure.

The figures are facts out of two tables of the llama.cpp project, taken over as they stand there:

* `SPEEDS`: tools/quantize/README.md at release b11434, Llama-3.1-8B (8.03 billion weights), tests pp512 and tg128; the
  hardware is not named (one GPU).
* `QUALITIES`: tools/perplexity/README.md at revision f364eb6f, Llama-3-8B (base), wiki.test, against its own F16.
* `SAME_TOP`: the same page's comparison of Llama-2-7B and Llama-3-8B.

They are of one model and one kind of text: smaller models lose more, longer contexts and other languages too. What is
said from them is called typical.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.models.naming import canonical_label

SOURCES = {
    "speed": "llama.cpp tools/quantize/README.md, b11434, Llama-3.1-8B, pp512 and tg128",
    "quality": "llama.cpp tools/perplexity/README.md, f364eb6f, Llama-3-8B, wiki.test",
}
WEIGHTS = 8_030_261_248  # of Llama-3-8B and Llama-3.1-8B
KV_BYTES_A_TOKEN = 131_072  # of both: 32 layers, 8 heads of 128 for K and V, 16 bits
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """Bits per weight, GiB, and tokens a second with their standard deviations: reading a prompt, and answering."""

    label: str
    bits: float
    gib: float
    prefill: float
    prefill_sd: float
    decode: float
    decode_sd: float

    @property
    def size(self) -> int:
        return round(self.gib * GIB)

    @property
    def bandwidth(self) -> float:
        """Bytes a second of weights that answering went through."""
        return self.size * self.decode


@dataclass(frozen=True, slots=True)
class QualityRow:
    """`calibration` is the text of the importance matrix ("" without one); perplexity; mean KLD in nats and its
    standard error where it is told; the change of the right token's probability in percent: mean and RMS."""

    label: str
    calibration: str
    gib: float
    perplexity: float
    kld: float
    kld_error: float | None
    mean_delta_p: float
    rms_delta_p: float


# fmt: off
SPEEDS = (
    SpeedRow("IQ1_S", 2.0042, 1.87, 858.88, 1.22, 79.73, 0.79),
    SpeedRow("IQ1_M", 2.1460, 2.01, 847.99, 0.47, 72.92, 0.14),
    SpeedRow("IQ2_XXS", 2.3824, 2.23, 852.39, 0.85, 79.86, 0.22),
    SpeedRow("IQ2_XS", 2.5882, 2.42, 826.99, 12.51, 78.04, 0.46),
    SpeedRow("IQ2_S", 2.7403, 2.56, 783.55, 13.73, 77.30, 2.47),
    SpeedRow("IQ2_M", 2.9294, 2.74, 787.68, 7.00, 74.44, 0.15),
    SpeedRow("IQ3_XXS", 3.2548, 3.04, 813.88, 6.53, 73.95, 0.20),
    SpeedRow("IQ3_XS", 3.4977, 3.27, 708.71, 1.26, 71.67, 0.54),
    SpeedRow("IQ3_S", 3.6606, 3.42, 798.78, 8.81, 69.31, 0.63),
    SpeedRow("IQ3_M", 3.7628, 3.52, 768.70, 13.73, 70.15, 0.33),
    SpeedRow("IQ4_XS", 4.4597, 4.17, 771.80, 11.38, 77.51, 0.20),
    SpeedRow("IQ4_NL", 4.6818, 4.38, 806.03, 7.07, 76.63, 0.28),
    SpeedRow("Q2_K_S", 2.9697, 2.78, 798.91, 6.40, 90.01, 0.12),
    SpeedRow("Q2_K", 3.1593, 2.95, 784.45, 7.85, 79.85, 0.20),
    SpeedRow("Q3_K_S", 3.6429, 3.41, 752.17, 7.94, 69.84, 0.18),
    SpeedRow("Q3_K_M", 3.9960, 3.74, 783.44, 9.92, 71.68, 0.22),
    SpeedRow("Q3_K_L", 4.2979, 4.02, 761.17, 7.55, 69.38, 0.49),
    SpeedRow("Q4_K_S", 4.6672, 4.36, 818.55, 9.58, 76.71, 0.20),
    SpeedRow("Q4_K_M", 4.8944, 4.58, 821.81, 21.44, 71.93, 1.52),
    SpeedRow("Q5_K_S", 5.5704, 5.21, 752.52, 0.99, 69.53, 0.18),
    SpeedRow("Q5_K_M", 5.7036, 5.33, 758.69, 7.43, 67.23, 1.08),
    SpeedRow("Q6_K", 6.5633, 6.14, 812.01, 10.82, 58.67, 3.13),
    SpeedRow("Q8_0", 8.5008, 7.95, 865.09, 8.30, 50.93, 0.08),
    SpeedRow("F16", 16.0005, 14.96, 923.49, 0.53, 29.17, 0.04),
)
QUALITIES = (
    QualityRow("F16", "", 14.97, 6.2332, 0.000551, None, 0.001, 0.787),
    QualityRow("Q8_0", "", 7.96, 6.2343, 0.001355, 0.000006, -0.019, 1.198),
    QualityRow("Q6_K", "", 6.14, 6.2534, 0.005452, 0.000035, -0.007, 2.295),
    QualityRow("Q5_K_M", "", 5.33, 6.2886, 0.010762, 0.000079, -0.114, 3.160),
    QualityRow("Q5_K_S", "", 5.21, 6.3366, 0.016595, None, -0.223, 3.918),
    QualityRow("Q5_1", "", 5.65, 6.3379, 0.018045, None, -0.287, 4.123),
    QualityRow("Q5_0", "", 5.21, 6.3632, 0.022239, None, -0.416, 4.634),
    QualityRow("Q4_K_M", "WT10m", 4.58, 6.3829, 0.028152, None, -0.389, 5.251),
    QualityRow("Q4_K_M", "", 4.58, 6.4071, 0.031273, 0.000238, -0.596, 5.519),
    QualityRow("Q4_K_S", "WT10m", 4.37, 6.4097, 0.031951, None, -0.531, 5.645),
    QualityRow("IQ4_NL", "WT10m", 4.35, 6.4556, 0.035742, None, -0.590, 5.998),
    QualityRow("IQ4_XS", "WT10m", 4.14, 6.4597, 0.036334, None, -0.668, 6.044),
    QualityRow("Q4_K_S", "", 4.37, 6.5005, 0.043136, 0.000314, -0.927, 6.562),
    QualityRow("Q4_1", "", 4.78, 6.6827, 0.071683, None, -0.927, 8.512),
    QualityRow("Q4_0", "", 4.34, 6.7001, 0.071940, None, -1.588, 8.434),
    QualityRow("Q3_K_L", "WT10m", 4.03, 6.6712, 0.073077, None, -0.940, 8.662),
    QualityRow("Q3_K_M", "WT10m", 3.74, 6.7343, 0.084358, None, -1.198, 9.292),
    QualityRow("Q3_K_L", "", 4.03, 6.7879, 0.087176, None, -1.532, 9.432),
    QualityRow("Q3_K_M", "", 3.74, 6.8885, 0.101913, 0.000677, -1.990, 10.203),
    QualityRow("IQ3_M", "WT10m", 3.53, 6.8983, 0.102534, None, -3.178, 10.513),
    QualityRow("IQ3_S", "WT10m", 3.42, 6.9655, 0.111278, None, -3.066, 10.845),
    QualityRow("IQ3_XS", "WT10m", 3.28, 7.1630, 0.138693, None, -3.667, 12.148),
    QualityRow("IQ3_XXS", "WT10m", 3.05, 7.4584, 0.183625, None, -3.918, 13.836),
    QualityRow("Q3_K_S", "WT10m", 3.41, 7.6029, 0.199821, None, -5.046, 14.980),
    QualityRow("Q3_K_S", "", 3.41, 7.8638, 0.228217, None, -5.604, 15.541),
    QualityRow("IQ2_M", "WT10m", 2.74, 8.6008, 0.325989, None, -6.463, 18.519),
    QualityRow("Q2_K", "WT10m", 2.96, 8.6478, 0.332223, None, -6.500, 18.881),
    QualityRow("Q2_K_S", "WT10m", 2.96, 9.3238, 0.403360, None, -7.131, 20.050),
    QualityRow("IQ2_S", "WT10m", 2.56, 9.6508, 0.439197, None, -8.319, 21.491),
    QualityRow("Q2_K", "", 2.96, 9.7516, 0.445132, 0.001835, -9.123, 21.421),
    QualityRow("IQ2_XS", "WT10m", 2.43, 10.7614, 0.546290, None, -10.576, 23.872),
    QualityRow("IQ2_XXS", "WT10m", 2.24, 14.0918, 0.812022, None, -14.363, 28.576),
    QualityRow("IQ1_M", "WT10m", 2.01, 25.4937, 1.393084, None, -24.672, 38.287),
    QualityRow("IQ1_S", "WT1m", 1.88, 58.0978, 2.211278, None, -32.471, 46.418),
)
# fmt: on
# Share of positions whose likeliest token is the same: Llama-2-7B, Llama-3-8B.
SAME_TOP = {"Q2_K": (0.8558, 0.7114), "Q4_K_M": (0.9467, 0.9190), "Q6_K": (0.9752, 0.9603), "Q8_0": (0.9885, 0.9767)}

_SPEED_BY_LABEL = {row.label: row for row in SPEEDS}
_QUALITY_BY_LABEL = {row.label: row for row in reversed(QUALITIES)}  # the first row of a label: the best calibrated
_PLAIN_BY_LABEL = {row.label: row for row in QUALITIES if not row.calibration}
# Labels that the tables do not have, and the one whose mixture they share or undercut least.
_NEIGHBOURS = {
    "BF16": "F16", "F32": "F16", "Q8_K": "Q8_0", "INT8": "Q8_0", "FP8": "Q8_0", "MXFP8": "Q8_0",
    "Q6_K_L": "Q6_K", "Q6_K_XL": "Q6_K", "Q5_K": "Q5_K_M", "Q5_K_L": "Q5_K_M", "Q5_K_XL": "Q5_K_M",
    "Q4_K": "Q4_K_M", "Q4_K_L": "Q4_K_M", "Q4_K_XL": "Q4_K_M", "INT4": "Q4_0",
    "Q3_K": "Q3_K_M", "Q3_K_XL": "Q3_K_L", "Q2_K_L": "Q2_K", "Q2_K_XL": "Q2_K",
}  # fmt: skip


def usual_label(label: str) -> str:
    """The label of the tables that stands for `label`, "" where none does."""
    name = canonical_label(label).removeprefix("UD-")
    name = _NEIGHBOURS.get(name, name)
    return name if name in _QUALITY_BY_LABEL or name in _SPEED_BY_LABEL else ""


def typical_quality(label: str, *, calibrated: bool = False) -> QualityRow | None:
    """What the published table has for a label: without an importance matrix, unless `calibrated`, or only that is
    published."""
    name = usual_label(label)
    return (None if calibrated else _PLAIN_BY_LABEL.get(name)) or _QUALITY_BY_LABEL.get(name)


def typical_same_top(label: str) -> float | None:
    """The lower of the two published shares."""
    found = SAME_TOP.get(usual_label(label))
    return min(found) if found else None


def typical_speed(label: str) -> SpeedRow | None:
    return _SPEED_BY_LABEL.get(usual_label(label))


def decode_ratio(label: str, size: int, measured_label: str, measured_size: int) -> float | None:
    """How much faster `label` decodes than a variant that was measured: fewer bytes, times how well its format is
    unpacked (which is what limits below some 4 bits). None where a table lacks one of them."""
    one, other = typical_speed(label), typical_speed(measured_label)
    if one is None or other is None or min(size, measured_size) <= 0:
        return None
    return measured_size / size * one.bandwidth / other.bandwidth
