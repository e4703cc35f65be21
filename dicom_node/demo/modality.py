"""Plays the modality: wraps a real radiograph from a picture file in a valid DX object and sends it.

The header is synthetic and says so; the pixels are real. UIDs derive from the picture's content, so that
sending twice sends the same object.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.presentation import build_context

from dicom_node.errors import NodeError

_TIMEOUT_S: Final = 30.0


class SendFailed(NodeError):
    """The demonstration's modality could not send."""

    code = "demo.send"


@dataclass(frozen=True, slots=True)
class Header:
    """What the synthetic header says about the patient and the order.

    Attributes
    ----------
    age : str
        DICOM age string (PS3.5 6.2).
    taken : datetime
        Study and acquisition time; local, without offset.
    """

    patient_name: str = "Demonstration^Radiograph"
    patient_id: str = "DEMO-1"
    sex: str = "O"
    age: str = "004Y"
    accession_number: str = "DEMO0001"
    study_description: str = "Chest AP"
    view: str = "AP"
    taken: datetime = datetime(2026, 1, 2, 10, 15)  # noqa: DTZ001 - DICOM times are local


def wrap(picture: Path, header: Header | None = None) -> FileDataset:
    """A picture file as a DX image for presentation (PS3.3 A.26), 8 bits, MONOCHROME2.

    Parameters
    ----------
    picture : Path
        A grey PNG or JPEG of a frontal chest radiograph.
    header : Header, optional
        None for the demonstration's.

    Returns
    -------
    FileDataset
        Complete with file meta information; `save_as` writes it.
    """
    with Image.open(picture) as image:
        levels = np.asarray(image.convert("L"), dtype=np.uint8)
    return dataset_of(levels, header or Header())


def dataset_of(levels: NDArray[np.uint8], header: Header) -> FileDataset:
    """The same from grey levels [H, W]."""
    seed = hashlib.sha256(levels.tobytes() + repr((levels.shape, header)).encode()).hexdigest()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = _uid(seed, "image")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("blindread", "implementation")
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    _patient_and_study(dataset, header, seed)
    _series_and_acquisition(dataset, header, seed)
    _image(dataset, levels)
    return dataset


def _uid(seed: str, role: str) -> UID:
    """A UID from content (PS3.5 B.2)."""
    digest = hashlib.sha256(f"{seed}/{role}".encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def _patient_and_study(dataset: Dataset, header: Header, seed: str) -> None:
    day, time = header.taken.strftime("%Y%m%d"), header.taken.strftime("%H%M%S")
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = header.patient_name
    dataset.PatientID = header.patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = header.sex
    dataset.PatientAge = header.age
    dataset.StudyInstanceUID = _uid(seed, "study")
    dataset.StudyDate, dataset.StudyTime = day, time
    dataset.StudyID = "1"
    dataset.AccessionNumber = header.accession_number
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = header.study_description


def _series_and_acquisition(dataset: Dataset, header: Header, seed: str) -> None:
    day, time = header.taken.strftime("%Y%m%d"), header.taken.strftime("%H%M%S")
    dataset.Modality = "DX"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.SeriesInstanceUID = _uid(seed, "series")
    dataset.SeriesNumber = 1
    dataset.SeriesDate, dataset.SeriesTime = day, time
    dataset.SeriesDescription = f"Chest {header.view}"
    dataset.Manufacturer = "SYNTHETIC HEADER"
    dataset.ManufacturerModelName = "demonstration"
    dataset.DeviceSerialNumber = "1"
    dataset.SoftwareVersions = "1"
    dataset.DetectorType = ""
    dataset.PositionerType = ""
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = header.view
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageLaterality = "U"
    dataset.AcquisitionDate, dataset.AcquisitionTime = day, time
    dataset.ContentDate, dataset.ContentTime = day, time
    dataset.AcquisitionContextSequence = []
    dataset.AnatomicRegionSequence = [_code(Code("816094009", "SCT", "Chest"))]
    dataset.ViewCodeSequence = [
        _code(
            Code("272479007", "SCT", "postero-anterior")
            if header.view == "PA"
            else Code("399348003", "SCT", "antero-posterior")
        )
    ]


def _image(dataset: Dataset, levels: NDArray[np.uint8]) -> None:
    dataset.InstanceNumber = 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", ""]
    dataset.ImageComments = "real radiograph, synthetic header"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = levels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelRepresentation = 0
    dataset.ImagerPixelSpacing = [0.2, 0.2]
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = -1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = 0, 1, "US"
    dataset.WindowCenter, dataset.WindowWidth = 128, 256
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.LossyImageCompression = "00"
    dataset.BurnedInAnnotation = "NO"
    dataset.PixelData = levels.tobytes() + b"\0" * (levels.size % 2)


def _code(concept: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = concept.value, concept.scheme_designator
    item.CodeMeaning = concept.meaning
    return item


def send(
    datasets: Sequence[Dataset], host: str, port: int, *, called_ae: str, calling_ae: str = "MODALITY"
) -> None:
    """Store objects by C-STORE, in their own transfer syntax.

    Raises
    ------
    SendFailed
        No association, or the gateway refused an object.
    """
    entity = AE(ae_title=calling_ae)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
    entity.connection_timeout = _TIMEOUT_S
    wanted = {(d.SOPClassUID, d.file_meta.TransferSyntaxUID) for d in datasets}
    contexts = [build_context(uid, syntax) for uid, syntax in sorted(wanted)]
    association = entity.associate(host, port, contexts=contexts, ae_title=called_ae)
    if not association.is_established:
        raise SendFailed("association", expected=f"accepted by {called_ae}", got="rejected or no answer")
    try:
        for dataset in datasets:
            status = association.send_c_store(dataset).get("Status")
            if status != 0x0000:
                got = "no answer" if status is None else f"0x{status:04X}"
                raise SendFailed("C-STORE", expected="0x0000", got=got)
    finally:
        association.release()
