"""`params.yaml`, parsed strictly into one frozen object a section.

An unknown or missing key, a wrong type or a value out of range is one sentence that names the key.
"""

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from vidrnn.errors import ParamsError

PARAMS_PATH = Path("params.yaml")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Confidence = Annotated[float, Field(gt=0.5, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"no time zone is called {name!r}; expected a name as in Europe/Berlin or UTC") from None
    return name


def _recorded_at_pattern(pattern: str) -> str:
    try:
        groups = set(re.compile(pattern).groupindex)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    needed = {"year", "month", "day", "hour", "minute", "second"}
    if groups != needed:
        raise ValueError(f"needs exactly the named groups {sorted(needed)}, found {sorted(groups)}")
    return pattern


def _in_cells(height: int) -> int:
    if height % 40:
        raise ValueError("must be a multiple of 40, so that the 20 rows of cells have an even number of pixels each")
    return height


def _loss(name: str) -> str:
    if name not in {"nll", "mse", "huber"} and not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", name):
        raise ValueError("must be nll, mse, huber or package.module:function")
    return name


def _cron(text: str) -> str:
    if len(text.split()) not in (5, 6):
        raise ValueError("needs five parts (minute, hour, day, month, weekday) as in `0 2 * * *`")
    return text


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Patterns = Annotated[tuple[str, ...], BeforeValidator(_frozen)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class DataParams(_Section):
    """Where footage and labels lie, and the time zone of the times in file names."""

    videos: Annotated[str, Field(min_length=1)]
    labels: Annotated[str, Field(min_length=1)]
    time_zone: Annotated[str, AfterValidator(_time_zone)]


class DemoParams(_Section):
    """The drawn footage. `frame_rate` in frames/s; lengths in seconds a camera."""

    seed: Seed
    frame_rate: Annotated[int, Field(ge=5, le=60)]
    ordinary_seconds: Annotated[int, Field(ge=10)]
    test_seconds: Annotated[int, Field(ge=180)]


class IndexParams(_Section):
    """Which files train and are scored, where a name says when, and `frames_rate` of what has no times, in frames/s."""

    frames_rate: Annotated[float, Field(ge=1, le=1000)]
    train: Patterns
    test: Patterns
    recorded_at_pattern: Annotated[str, AfterValidator(_recorded_at_pattern)] | None

    @property
    def frames_step(self) -> Fraction:
        """Seconds from one frame to the next where frames have no times of their own, exactly."""
        return 1 / Fraction(str(self.frames_rate))


class FeaturesParams(_Section):
    """`rate` in frames/s or "source"; `height` in pixels of the working picture; times in seconds."""

    rate: Annotated[float, Field(gt=0, le=1000)] | Literal["source"]
    height: Annotated[int, Field(ge=80, le=2160), AfterValidator(_in_cells)]
    warmup_seconds: Positive
    background_seconds: Positive
    stopped_seconds: Positive
    ragged: Literal["refuse", "pad", "cut"]
    time_limit_seconds: Positive

    @property
    def rate_fraction(self) -> Fraction | None:
        """The analysis rate as an exact fraction; None takes every frame."""
        return None if self.rate == "source" else Fraction(str(self.rate))


class ModelParams(_Section):
    """The shape of the network. Horizons in seconds, each longer than the one before."""

    cell: Literal["gru", "lstm", "mingru", "article"]
    hidden_size: Count
    num_layers: Count
    horizons_seconds: Annotated[tuple[Positive, ...], BeforeValidator(_frozen), Field(min_length=1)]

    @model_validator(mode="after")
    def _ascending(self) -> "ModelParams":
        if list(self.horizons_seconds) != sorted(set(self.horizons_seconds)):
            raise ValueError(f"horizons_seconds must ascend, got {list(self.horizons_seconds)}")
        return self


class TrainParams(_Section):
    """How the network is fitted. Times in seconds, shares in [0, 1]."""

    scope: Literal["camera", "all"]
    seed: Seed
    loss: Annotated[str, AfterValidator(_loss)]
    loss_file: Annotated[str, Field(min_length=1)]
    learning_rate: Positive
    epochs: Count
    batches_per_epoch: Count
    batch_windows: Count
    cells_per_window: Count
    seq_seconds: Positive
    burn_in_seconds: NonNegative
    memory_dropout: Share
    gradient_clip: Positive
    patience: Count
    validation_share: Annotated[float, Field(gt=0, lt=0.5)]
    calibration_share: Annotated[float, Field(gt=0, lt=0.5)]
    trim_share: Annotated[float, Field(ge=0, lt=0.5)]
    block_seconds: Positive
    gap_seconds: NonNegative
    num_workers: Annotated[int, Field(ge=0)]
    threads: Count
    autocast: bool
    init_from: str | None

    @model_validator(mode="after")
    def _consistent(self) -> "TrainParams":
        if self.burn_in_seconds >= self.seq_seconds:
            raise ValueError(
                f"burn_in_seconds ({self.burn_in_seconds}) must be shorter than seq_seconds ({self.seq_seconds})"
            )
        if self.num_workers > 1 and self.batch_windows % self.num_workers:
            raise ValueError(
                f"batch_windows ({self.batch_windows}) must be a multiple of num_workers ({self.num_workers})"
            )
        return self


class DeviceParams(_Section):
    """Where the network runs, and how exactly."""

    gpu: bool | Literal["auto"]
    deterministic: bool


class GateParams(_Section):
    """When a candidate counts as worse than the champion."""

    confidence: Confidence


class ScoreParams(_Section):
    """Causal averages, in seconds."""

    place_seconds: Positive
    memory_seconds: Positive
    smoothing_seconds: Positive


class AlarmsParams(_Section):
    """`per_hour`: false alarms accepted a camera-hour; alarms nearer than `merge_seconds` are one event."""

    per_hour: Positive
    merge_seconds: NonNegative


class EvaluateParams(_Section):
    """Intervals by resampling videos."""

    resamples: Annotated[int, Field(ge=100)]
    confidence: Confidence
    seed: Seed


class ReportParams(_Section):
    """How many events the report shows with a picture."""

    max_events: Count


class NightlyParams(_Section):
    """When nights begin, as cron says it, on the clock of `data.time_zone`; what they take in, and what they remove."""

    cron: Annotated[str, AfterValidator(_cron)]
    scratch_every: Count
    watch: Annotated[tuple[str, ...], BeforeValidator(_frozen)]
    keep_days: Positive | None
    keep_gigabytes: Positive | None


class Params(_Section):
    """The whole of `params.yaml`."""

    data: DataParams
    demo: DemoParams
    index: IndexParams
    features: FeaturesParams
    model: ModelParams
    train: TrainParams
    device: DeviceParams
    gate: GateParams
    score: ScoreParams
    alarms: AlarmsParams
    evaluate: EvaluateParams
    report: ReportParams
    nightly: NightlyParams


def load_params(path: Path = PARAMS_PATH) -> Params:
    """Read and check the whole file.

    Raises:
        ParamsError: with every key that is missing, unknown, of a wrong type or out of range, in one sentence.
    """
    try:
        raw = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found; run from the folder that holds it") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ParamsError(f"{path}: expected sections such as `data:` and `train:`, found {type(raw).__name__}")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ParamsError(f"{path}: " + "; ".join(_problem(raw, e) for e in _problems(error))) from None


def _problems(error: ValidationError) -> list[dict[str, Any]]:
    """One problem a key: a key of several allowed types reports one line for each, of which one is enough."""
    by_key: dict[str, dict[str, Any]] = {}
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"][:2])
        if key in by_key:
            by_key[key]["msg"] += " or " + _lower(problem["msg"])
        else:
            by_key[key] = {**problem, "key": key}
    return list(by_key.values())


def _lower(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input ")


def _problem(raw: dict[str, Any], problem: dict[str, Any]) -> str:
    key, kind = problem["key"], problem["type"]
    section = key.split(".")[0]
    allowed = sorted(Params.model_fields) if key == section else sorted(_fields_of(section))
    if kind == "missing":
        return f"`{key}` is missing"
    if kind == "extra_forbidden":
        return f"`{key}` is not a key that exists here; allowed are {', '.join(allowed)}"
    if kind == "value_error" and key == section:  # of several keys, which the message names with their values
        return f"`{key}`: {_lower(problem['msg'])}"
    found: Any = raw
    for part in problem["loc"][:2]:
        found = found.get(part) if isinstance(found, dict) else found
    return f"`{key}` {_lower(problem['msg'])}, found {found!r}"


def _fields_of(section: str) -> list[str]:
    field = Params.model_fields.get(section)
    annotation = field.annotation if field else None
    return list(annotation.model_fields) if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
