"""CT images for tests: minimal ones of given pixels, compressed ones, and Enhanced CT of a series."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import imagecodecs
import numpy as np
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    generate_uid,
)

Pixels = NDArray[Any]


def _lossless_jpeg(pixels: Pixels, predictor: int) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=12))


# Each encodes 12-bit unsigned values.
ENCODERS: Final[dict[UID, Callable[[Pixels], bytes]]] = {
    JPEGBaseline8Bit: lambda a: bytes(imagecodecs.jpeg8_encode((a >> 4).astype(np.uint8), level=95)),
    JPEGExtended12Bit: lambda a: bytes(imagecodecs.jpeg8_encode(a, level=98, bitspersample=12)),
    JPEGLossless: lambda a: bytes(imagecodecs.jpeg8_encode(a, lossless=True, predictor=4, bitspersample=12)),
    JPEGLosslessSV1: lambda a: bytes(
        imagecodecs.jpeg8_encode(a, lossless=True, predictor=1, bitspersample=12)
    ),
    JPEGLSLossless: lambda a: bytes(imagecodecs.jpegls_encode(a)),
    JPEGLSNearLossless: lambda a: bytes(imagecodecs.jpegls_encode(a, level=2)),
    JPEG2000Lossless: lambda a: bytes(imagecodecs.jpeg2k_encode(a, codecformat="J2K", reversible=True)),
    JPEG2000: lambda a: bytes(imagecodecs.jpeg2k_encode(a, level=80, codecformat="J2K", reversible=False)),
    HTJ2KLossless: lambda a: bytes(imagecodecs.htj2k_encode(a, reversible=True)),
    HTJ2KLosslessRPCL: lambda a: bytes(imagecodecs.htj2k_encode(a, reversible=True, tlm=True)),
    HTJ2K: lambda a: bytes(imagecodecs.htj2k_encode(a, level=0.001, reversible=False)),
}
LOSSY: Final = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)


_ATTRIBUTES: Final[dict[str, object]] = {
    "SOPClassUID": CTImageStorage,
    "StudyInstanceUID": "1.2.3",
    "SeriesInstanceUID": "1.2.3.4",
    "Modality": "CT",
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "InstanceNumber": 1,
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "ImagePositionPatient": [0, 0, 0],
    "PixelSpacing": [0.75, 0.75],
    "SliceThickness": 2,
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "RescaleSlope": 1,
    "RescaleIntercept": -1024,
}


def ct_image(pixels: Pixels | None = None, /, **changes: object) -> Dataset:
    """Make a CT image of these stored values, 12 bits unsigned, with a rescale intercept of -1024.

    Args:
        pixels: Shape (rows, columns), or (frames, rows, columns).
        changes: Attributes by keyword; None removes one.
    """
    values = np.zeros((64, 64), np.uint16) if pixels is None else pixels
    bits = 12 if values.dtype == np.uint16 else values.dtype.itemsize * 8
    pixel_attributes: dict[str, object] = {
        "Rows": values.shape[-2],
        "Columns": values.shape[-1],
        "BitsAllocated": values.dtype.itemsize * 8,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(values.dtype.kind == "i"),
        "NumberOfFrames": len(values) if values.ndim == 3 else None,
        "PixelData": values.tobytes(),
    }
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPInstanceUID = generate_uid()
    for keyword, value in {**_ATTRIBUTES, **pixel_attributes, **changes}.items():
        if value is not None:
            setattr(ds, keyword, value)
        elif keyword in ds:
            delattr(ds, keyword)
    ds["PixelData"].VR = "OW"
    return ds


def compressed(pixels: Pixels, syntax: UID, /, **changes: object) -> Dataset:
    """Make a CT image of 12-bit values, compressed with a transfer syntax."""
    ds = ct_image(pixels, **changes)
    if syntax == RLELossless:
        ds.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        return ds
    frames = pixels if pixels.ndim == 3 else pixels[None]
    ds.PixelData = encapsulate([ENCODERS[syntax](frame) for frame in frames])
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == JPEGBaseline8Bit:
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.RescaleSlope = 8, 8, 7, 16
    return ds


def legacy_converted(series: Sequence[Dataset]) -> Dataset:
    """Turn a series into one Legacy Converted Enhanced CT image."""
    return LegacyConvertedEnhancedCTImage(
        legacy_datasets=list(series),
        series_instance_uid=generate_uid(),
        series_number=7,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )


def enhanced(series: Sequence[Dataset]) -> Dataset:
    """Turn a series into one Enhanced CT image, with a rescale of its own in every frame.

    Only what the geometry and the pixels need is filled in.
    """
    first = series[0]
    ds = ct_image(
        np.stack([np.frombuffer(one.PixelData, np.uint16).reshape(one.Rows, one.Columns) for one in series]),
        **dict.fromkeys(("RescaleSlope", "RescaleIntercept", "PixelSpacing", "SliceThickness")),
        **dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient")),
        SOPClassUID=EnhancedCTImageStorage,
        StudyInstanceUID=first.StudyInstanceUID,
        SeriesInstanceUID=generate_uid(),
        BodyPartExamined=first.get("BodyPartExamined"),
        FrameOfReferenceUID=first.get("FrameOfReferenceUID"),
    )
    ds.SharedFunctionalGroupsSequence = [
        _group(
            PixelMeasuresSequence=_copied(first, "PixelSpacing", "SliceThickness"),
            PlaneOrientationSequence=_copied(first, "ImageOrientationPatient"),
            CTReconstructionSequence=_copied(first, "ConvolutionKernel"),
        )
    ]
    ds.PerFrameFunctionalGroupsSequence = [
        _group(
            PlanePositionSequence=_copied(one, "ImagePositionPatient"),
            PixelValueTransformationSequence=_copied(one, "RescaleSlope", "RescaleIntercept"),
            FrameContentSequence={"FrameAcquisitionNumber": 1},
        )
        for one in series
    ]
    return ds


def _copied(ds: Dataset, *keywords: str) -> dict[str, object]:
    return {keyword: ds.get(keyword) for keyword in keywords if keyword in ds}


def _group(**macros: dict[str, object]) -> Dataset:
    group = Dataset()
    for keyword, attributes in macros.items():
        item = Dataset()
        for name, value in attributes.items():
            setattr(item, name, value)
        setattr(group, keyword, [item])
    return group
