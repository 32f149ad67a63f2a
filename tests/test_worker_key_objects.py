import io
from pathlib import Path

import pytest
from highdicom.ko import KeyObjectSelectionDocument
from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.findings import Study, as_bytes, context, ct_study, enhanced_study, finding
from tests.validators import report_text
from worker.outputs.compose import compose


def made(study: Study, *groups: str) -> dict[str, list[Dataset]]:
    composed = compose(finding(study), context(), study.sources, study.gray, groups)
    return {group: [one.dataset for one in composed if one.group == group] for group in groups}


def test_it_names_the_slices_that_have_a_heatmap_and_no_other() -> None:
    found = made(ct_study(), "kos", "sc")

    sources = [ds.SourceImageSequence[0] for ds in found["sc"] if "SourceImageSequence" in ds]
    document = KeyObjectSelectionDocument.from_dataset(dcmread(io.BytesIO(as_bytes(found["kos"][0]))))
    references = document.content.get_references()
    assert [item.referenced_sop_instance_uid for item in references] == [
        source.ReferencedSOPInstanceUID for source in sources
    ]
    assert len(references) == 3 < len(ct_study().sources)
    for item in references:
        # highdicom finds each among the evidence, or raises.
        document.resolve_reference(item.referenced_sop_instance_uid)


def test_of_a_multi_frame_image_it_names_the_frames() -> None:
    found = made(enhanced_study(), "kos", "sc")

    frames = [
        ds.SourceImageSequence[0].ReferencedFrameNumber for ds in found["sc"] if "SourceImageSequence" in ds
    ]
    (item,) = (item for item in found["kos"][0].ContentSequence if item.ValueType == "IMAGE")
    assert sorted(item.ReferencedSOPSequence[0].ReferencedFrameNumber) == sorted(frames)


def test_dcmtk_reads_title_and_finding(tmp_path: Path) -> None:
    (document,) = made(ct_study(), "kos")["kos"]
    path = tmp_path / "kos.dcm"
    path.write_bytes(as_bytes(document))

    text = report_text(path)

    assert "Key Object Selection Document" in text
    assert '"Of Interest"' in text
    assert "Signs of COVID-19 pneumonia" in text


@pytest.mark.parametrize("qualification", ["RESEARCH", "PRODUCT"])
def test_the_notice_is_there_until_the_operator_says_otherwise(qualification: str) -> None:
    study = ct_study()

    (one,) = compose(finding(study), context(qualification=qualification), study.sources, study.gray, {"kos"})

    assert (b"not for diagnostic use" in as_bytes(one.dataset)) == (qualification == "RESEARCH")
