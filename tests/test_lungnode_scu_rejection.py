from pynetdicom.pdu_primitives import A_ASSOCIATE

from lungnode.scu.rejection import REJECTIONS


def test_every_reason_has_the_name_that_pynetdicom_has_for_it() -> None:
    for (source, reason), rejection in REJECTIONS.items():
        answer = A_ASSOCIATE()
        answer.result, answer.result_source, answer.diagnostic = 1, source, reason
        name = answer.reason_str.lower().replace("recognised", "recognized")

        assert rejection.name.lower().startswith(name)
