"""The demo's story: seven steps, each of which looks at the real systems before it claims anything."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from local import flights
from local.errors import LocalError
from local.load import Load
from local.looks import ENDED, Looks, Serving, pieces, rollout_of
from local.report import Refusal, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from local.console import Steps
    from local.session import LocalSession

T = TypeVar("T")
_POLL_S = 0.25
_JOB_STARTS_S, _JOB_ENDS_S, _RELEASE_ENDS_S, _ANSWERS_S = 60.0, 240.0, 120.0, 30.0
_WARM_UP_S, _AFTERGLOW_S, _SETTLED_S, _LIVE_LINE_S = 2.0, 3.0, 1.0, 5.0
BOOTSTRAP_MONTHS = (1, 2, 3)
APRIL, MAY = 4, 5
_NAMES = {APRIL: "April", MAY: "May"}
MALFORMED = "2013-04-malformed.csv"
TITLES = (
    "Bring the program up on this machine",
    "Train and release the first model",
    "Start live traffic",
    "New data: April's flights",
    "A malformed upload",
    "The next good upload: May's flights",
    "Stop the traffic",
)


class StepFailedError(LocalError):
    """Something that a step was to show did not happen."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """How the story is told."""

    model: str = "flights"
    rate: float = 250.0
    """Requests a second."""
    connections: int = 16


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a training job ended, and when it trained."""

    status: str
    training: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A job that the story followed, and the record of what became of it."""

    title: str
    job: str
    record: dict[str, Any]
    training: tuple[float, float] | None
    uploaded: float | None = None
    first_prediction: float | None = None


class Story:
    """Tells the story to the end or to the first step that fails; holds what was found."""

    def __init__(self, session: LocalSession, console: Steps, options: DemoOptions) -> None:
        self._session = session
        self._console = console
        self._options = options
        self._looks: Looks | None = None
        self._found: list[str] = []
        self._malformed = ""
        self._told = time.monotonic()
        self.load: Load | None = None
        self.steps: list[Step] = []
        self.trained: list[Trained] = []
        self.refusals: list[Refusal] = []

    @property
    def model(self) -> str:
        """The model that the story is about."""
        return self._options.model

    @property
    def looks(self) -> Looks:
        """The systems; only once they are up."""
        if self._looks is None:
            raise StepFailedError("the program did not come up")
        return self._looks

    def tell(self) -> None:
        """Do every step; the first exception ends it, and the steps left count as skipped."""
        acts = (
            self._bring_up,
            self._first_model,
            self._start_traffic,
            lambda: self._new_data(APRIL),
            self._malformed_upload,
            lambda: self._new_data(MAY),
            self._stop_traffic,
        )
        try:
            for number, (title, act) in enumerate(zip(TITLES, acts, strict=True), 1):
                with self._step(number, title):
                    act()
        finally:
            done = len(self.steps)
            self.steps += [
                Step(number=number, title=title, outcome="skipped")
                for number, title in enumerate(TITLES, 1)
                if number > done
            ]

    # -- the steps ----------------------------------------------------------------------------------

    def _bring_up(self) -> None:
        self._session.bring_up(_Live(self._console))
        self._looks = Looks(self._session, self._options.model)
        counts = self._session.program.counts()
        self._say(
            f"{counts['declared']} resources in {counts['components']} components; {counts['local']} run, "
            f"{counts['declared_only']} are declared only"
        )
        self._say(f"AWS {self._session.aws_endpoint}, cluster {self._session.cluster.endpoint}")
        self._say(f"Service {self.looks.url}")

    def _first_model(self) -> None:
        job = self._until(
            lambda: next(iter(self.looks.jobs()), None), "the program's training job", _JOB_STARTS_S
        )
        trained = self._follow(job, "January to March", uploaded=None)
        self._released(trained)
        self._until(lambda: self.looks.ping().status == 200, "the Service's first answer", _ANSWERS_S)
        self._in_service(trained.record)

    def _start_traffic(self) -> None:
        folder = self._session.run_dir
        rows = folder / "requests.jsonl"
        count = flights.write_requests(self._month(APRIL), rows)
        self.load = Load(
            f"{self.looks.url}/invocations",
            rows,
            folder,
            rate=self._options.rate,
            connections=self._options.connections,
        )
        load = self.load
        self._until(lambda: load.samples, "the first answered request", _ANSWERS_S)
        self._pause(_WARM_UP_S)
        self._say(f"April's {count:,} flights as requests: {load.line()}")

    def _new_data(self, month: int) -> None:
        name = _NAMES[month]
        key, uploaded, job = self._upload(self._month(month))
        keys = self.looks.trained_on(job)
        self._expect(key in keys, f"job {job} was to be trained on {key}, but has {', '.join(keys)}")
        if self._malformed:
            self._expect(
                self._malformed not in keys, f"job {job} was given the refused {self._malformed} again"
            )
            self._say(f"the job's data set has {len(keys)} files, without the refused one")
        trained = self._follow(job, name, uploaded=uploaded)
        self._released(trained)
        version = str(pieces(trained.record, "bundle", "version"))
        load = self._traffic()
        first = self._until(lambda: load.first(version), "the new model's first prediction", _ANSWERS_S)
        self._in_service(trained.record)
        self.trained[-1] = replace(trained, first_prediction=first)
        training = trained.training[1] - trained.training[0] if trained.training else 0.0
        self._say(
            f"first prediction {first - uploaded:.1f} s after the upload, {training:.1f} s of it training"
        )

    def _malformed_upload(self) -> None:
        before, pods = self.looks.champion(), self.looks.pods()
        bad = flights.write_malformed(self._month(APRIL), self._session.run_dir / MALFORMED)
        key, uploaded, job = self._upload(bad)
        ended, record = self._ended(job), self._settled(job)
        reason = self.looks.refusals().get(key, "")
        self.refusals.append(
            Refusal(upload=bad.name, job=job, reason=reason, uploaded=uploaded, training=ended.training)
        )
        self._expect(ended.status == "Failed", f"job {job} was to fail, but is {ended.status}")
        self._expect(
            record["outcome"] == "refused", f"its release was to be refused, but is {record['outcome']}"
        )
        self._expect(bool(reason), f"no record says why {key} was refused")
        self._say(f"refused {key}: {reason}")
        after, ping = self.looks.champion(), self.looks.ping()
        self._expect(after["version"] == before["version"], f"the champion changed to {after['version']}")
        self._expect(self.looks.pods().image == pods.image, "the Deployment's image changed")
        self._expect(
            ping.version == before["version"], f"the Service answers with {ping.version or 'nothing'}"
        )
        answered = self._traffic().versions_since(uploaded)
        self._expect(
            answered == {before["version"]}, f"requests were answered by {', '.join(sorted(answered))}"
        )
        self._malformed = key
        self._say(f"still in service: release {after['release']}, {after['version']}")

    def _stop_traffic(self) -> None:
        load = self._traffic()
        self._pause(_AFTERGLOW_S)
        load.stop()
        last = max(sample.due for sample in load.samples)
        rate = len(load.samples) / max(last - load.samples[0].due, 1e-9)
        self._say(f"{len(load.samples):,} requests sent at {rate:.0f} a second, {load.failed} failed")
        short = 0.97 * self._options.rate
        self._expect(rate >= short, f"only {rate:.0f} requests a second were sent, of {self._options.rate:g}")

    # -- what several steps do ------------------------------------------------------------------------

    def _upload(self, file: Path) -> tuple[str, float, str]:
        """Upload a file; its key, when that was, and the job that its event started."""
        known = set(self.looks.jobs())
        key, uploaded = self.looks.upload(file)
        self._say(f"uploaded {file.name}, {file.stat().st_size / 1e6:.1f} MB, to {key}")
        job = self._until(
            lambda: next((job for job in self.looks.jobs() if job not in known), None),
            "the job that the upload's event starts",
            _JOB_STARTS_S,
        )
        return key, uploaded, job

    def _follow(self, job: str, title: str, uploaded: float | None) -> Trained:
        """Follow a job to the end of its release."""
        ended = self._ended(job)
        record = self._settled(job)
        trained = Trained(title=title, job=job, record=record, training=ended.training, uploaded=uploaded)
        self.trained.append(trained)
        return trained

    def _ended(self, job: str) -> Ended:
        """Wait for a training job's end."""
        self._until(lambda: self.looks.jobs().get(job) in ENDED, "the training", _JOB_ENDS_S)
        found = self.looks.job(job)
        start, end = found.get("TrainingStartTime"), found.get("TrainingEndTime")
        training = (start.timestamp(), end.timestamp()) if start and end else None
        took = f" in {training[1] - training[0]:.1f} s" if training else ""
        self._say(f"training job {job}: {found['TrainingJobStatus']}{took}")
        return Ended(status=found["TrainingJobStatus"], training=training)

    def _settled(self, job: str) -> dict[str, Any]:
        """Wait for the end of a job's release; its record."""
        return self._until(lambda: self._outcome(job), "its release", _RELEASE_ENDS_S)

    def _outcome(self, job: str) -> dict[str, Any] | None:
        record = self.looks.release_of(job)
        return record if record and "outcome" in record else None

    def _released(self, trained: Trained) -> None:
        """Check that a release came into service, with its image and package."""
        record = trained.record
        outcome, reason = record["outcome"], record.get("reason", "")
        self._expect(outcome == "released", f"release {record['number']} was {outcome}: {reason}")
        digest = str(pieces(record, "image", "digest"))
        layers = self.looks.image_layers(digest)
        self._expect(layers > 1, f"the registry does not have the image {digest}")
        package = self.looks.package(str(pieces(record, "package", "arn")))
        container = package["InferenceSpecification"]["Containers"][0]["Image"]
        status = package["ModelApprovalStatus"]
        self._expect(
            status == "Approved" and container.endswith(digest),
            f"the model package is {status}, with {container}",
        )
        self._say(f"gate: {reason}")
        self._say(
            f"image {digest[:19]}…, {layers} layers, in the registry; package {record['number']} {status}"
        )

    def _in_service(self, record: dict[str, Any]) -> None:
        """Check that every pod runs a release's image and the Service answers with its model."""
        digest, bundle = str(pieces(record, "image", "digest")), record["bundle"]
        self._until(lambda: self.looks.pods().settled_on(digest), f"all pods on {digest}", _ANSWERS_S)
        wanted = Serving(status=200, version=bundle["version"], digest=bundle["digest"])
        ping = self.looks.ping()
        self._expect(ping == wanted, f"the Service answers {ping.status} with {ping.version or 'no model'}")
        champion = self.looks.champion()
        self._expect(champion.get("version") == wanted.version, f"the champion is {champion.get('version')}")
        rollout = rollout_of(record)
        took = f", rolled out in {rollout[1] - rollout[0]:.1f} s" if rollout else ""
        pods = self.looks.pods()
        self._say(f"{pods.available} of {pods.wanted} pods serve {wanted.version}{took}")

    def _answered_only_by(self, version: str) -> None:
        """Wait until nobody else answers: connections stay with the pod that they have until it drains."""
        load = self._traffic()
        self._until(
            lambda: load.versions_since(time.time() - _SETTLED_S) == {version},
            f"{version} to be the only one that answers",
            _ANSWERS_S,
        )

    def _month(self, month: int) -> Path:
        return flights.write_months(data_folder(self._session.options.project), (month,))[0]

    def _traffic(self) -> Load:
        if self.load is None:
            raise StepFailedError("there is no traffic")
        return self.load

    # -- telling --------------------------------------------------------------------------------------

    @contextmanager
    def _step(self, number: int, title: str) -> Generator[None]:
        self._console.step(title)
        self._found, started = [], time.time()
        outcome = "failed"
        try:
            yield
            outcome = "done"
        except Exception as error:
            self._found.append(str(error) or type(error).__name__)
            raise
        finally:
            self._console.close(done=outcome == "done")
            self.steps.append(
                Step(
                    number=number,
                    title=title,
                    outcome="done" if outcome == "done" else "failed",
                    started=started,
                    ended=time.time(),
                    found=tuple(self._found),
                )
            )

    def _say(self, line: str) -> None:
        self._found.append(line)
        self._console.note(line)

    def _expect(self, happened: bool, otherwise: str) -> None:
        if not happened:
            raise StepFailedError(otherwise)

    def _until(self, look: Callable[[], T | None], what: str, timeout_s: float) -> T:
        """Look again and again until there is something; what it is."""
        deadline = time.monotonic() + timeout_s
        while not (seen := look()):
            if time.monotonic() > deadline:
                raise StepFailedError(f"waited {timeout_s:.0f} s for {what}, in vain")
            self._pulse(f"waiting for {what}")
            time.sleep(_POLL_S)
        return seen

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._pulse("")
            time.sleep(_POLL_S)

    def _pulse(self, doing: str) -> None:
        self._session.check()
        if self.load is not None:
            self.load.poll()
            doing = "; ".join(text for text in (self.load.line(), doing) if text)
        self._console.live(doing)
        if (
            not self._console.console.is_terminal
            and self.load
            and time.monotonic() - self._told > _LIVE_LINE_S
        ):
            self._told = time.monotonic()
            self._console.note(doing)


class _Live:
    """Bringing up has steps of its own; within the story's first one they only pass by."""

    def __init__(self, console: Steps) -> None:
        self._console = console

    def step(self, text: str) -> None:
        self._console.live(text)

    def note(self, text: str) -> None:
        """Nothing: the story says what came of it."""


def data_folder(project: Path) -> Path:
    """Where the demo keeps its monthly files."""
    return project / ".local" / "flights"
