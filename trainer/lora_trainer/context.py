"""What every step of a command needs: the job, its S3 access and layout, the workspace, the stop flag, the progress."""

from dataclasses import dataclass, field

from lora_api.artifacts import ArtifactLayout
from lora_api.job_file import JobFile
from lora_trainer.progress import ProgressState
from lora_trainer.signals import StopSignal
from lora_trainer.storage.access import Storage
from lora_trainer.storage.location import Location
from lora_trainer.workspace import Workspace

OUTPUT_FIELD = "spec.output.uri"


@dataclass(frozen=True)
class Context:
    """One command of one job."""

    job: JobFile
    storage: Storage
    workspace: Workspace
    stop: StopSignal = field(default_factory=StopSignal)
    progress: ProgressState = field(default_factory=ProgressState)

    @property
    def layout(self) -> ArtifactLayout:
        """Where the artifacts of the run lie."""
        job = self.job
        return ArtifactLayout(output_uri=job.spec.output.uri, namespace=job.namespace, name=job.name, run=job.run)

    @property
    def base(self) -> Location:
        """Folder of the base model."""
        return Location(self.job.spec.base_model.uri, "spec.baseModel.uri")

    def output(self, uri: str) -> Location:
        """Return the location of an artifact."""
        return Location(uri, OUTPUT_FIELD)
