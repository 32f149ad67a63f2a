import io
from dataclasses import replace

import numpy as np
import pytest
from highdicom.pm import ParametricMap
from pydicom import dcmread
from pydicom.dataset import Dataset

from lungnode.pixels import Box
from tests.findings import Study, as_bytes, context, ct_study, enhanced_study
from worker.outputs.parametric import BUDGET_BYTES, FINEST, compose_map, reduced, reduction
from worker.outputs.plane import plane_of


def parametric_map(study: Study) -> Dataset:
    made = compose_map(study.slices, context(), study.sources)
    assert made is not None
    return dcmread(io.BytesIO(as_bytes(made)))


def test_highdicom_reads_the_map_back() -> None:
    read = ParametricMap.from_dataset(parametric_map(ct_study()))

    geometry = read.get_volume_geometry()
    assert geometry is not None
    # Source: PS3.3 C.7.6.2.1.1; highdicom counts slices, rows and columns, and lengths in mm.
    assert geometry.shape == (5, 16, 24)
    assert geometry.spacing == pytest.approx((5.0, 3.0, 2.0))
    assert read.pixel_array.dtype == np.float32


def test_the_quantity_is_class_activation_without_units() -> None:
    (mapping,) = parametric_map(ct_study()).SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence

    quantity = mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0]
    assert (quantity.CodeValue, quantity.CodingSchemeDesignator) == ("130402", "DCM")
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)


def test_values_are_the_mean_activation_of_the_merged_pixels() -> None:
    item = replace(ct_study().slices[0], class_map=np.full((4, 5), 0.5, np.float32), box=Box(0, 32, 0, 96))
    study = ct_study()
    study.slices = (item,)

    values = parametric_map(study).pixel_array

    assert values.shape == (16, 24)
    assert values[:8] == pytest.approx(np.full((8, 24), 0.5), abs=1e-3)
    assert not values[8:].any()


@pytest.mark.parametrize("study", [ct_study(), enhanced_study()])
def test_a_merged_pixel_lies_in_the_middle_of_those_it_was_made_of(study: Study) -> None:
    made = parametric_map(study)

    shared = made.SharedFunctionalGroupsSequence[0]
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [FINEST * 0.75, FINEST * 0.5]
    for index, frame in enumerate(made.PerFrameFunctionalGroupsSequence):
        # Source: PS3.3 C.7.6.2.1.1: P = S + X j + Y i; the merged pixel is centred at i = j = 1.5.
        expected = [-24.0 + 1.5 * 0.5, -30.5 + 1.5 * 0.75, -5.0 * index]
        assert frame.PlanePositionSequence[0].ImagePositionPatient == pytest.approx(expected)


def test_each_frame_names_its_source() -> None:
    study = enhanced_study()

    frames = parametric_map(study).PerFrameFunctionalGroupsSequence

    references = [frame.DerivationImageSequence[0].SourceImageSequence[0] for frame in frames]
    assert [reference.ReferencedFrameNumber for reference in references] == [1, 2, 3, 4, 5]
    assert {reference.ReferencedSOPInstanceUID for reference in references} == set(study.sources)


def test_slices_of_another_grid_are_left_out() -> None:
    study = ct_study()
    study.sources[study.slices[2].sop_instance_uid].PixelSpacing = [1, 1]

    made = parametric_map(study)

    assert made.NumberOfFrames == 4
    assert study.slices[2].sop_instance_uid not in str(made)


@pytest.mark.parametrize(("rows", "frames"), [(512, 100), (512, 1000), (1024, 600), (64, 1)])
def test_the_grid_is_as_fine_as_the_budget_allows(rows: int, frames: int) -> None:
    def size(factor: int) -> int:
        return frames * (-(-rows // factor)) ** 2 * 4

    factor = reduction(rows, rows, frames)

    assert size(factor) <= BUDGET_BYTES
    assert factor == FINEST or size(factor - 1) > BUDGET_BYTES


def test_a_matrix_that_does_not_divide_is_padded_with_nothing() -> None:
    study = ct_study(Rows=66, Columns=97)
    plane = plane_of(study.sources[study.slices[0].sop_instance_uid], None)
    assert plane is not None
    item = replace(study.slices[0], class_map=np.ones((2, 2), np.float32), box=Box(0, 66, 0, 97))

    values = reduced(item, plane, 4)

    assert values.shape == (17, 25)
    assert values[0, 0] == pytest.approx(1)
    assert values[16, 0] == pytest.approx(0.5, abs=1e-3)
    assert values[0, 24] == pytest.approx(0.25, abs=1e-3)


def test_a_lossy_source_stays_lossy() -> None:
    study = ct_study(
        LossyImageCompression="01", LossyImageCompressionRatio="10", LossyImageCompressionMethod="ISO_10918_1"
    )

    assert parametric_map(study).LossyImageCompression == "01"
    assert parametric_map(ct_study()).LossyImageCompression == "00"
