-- The views that people query. A column is never taken away or renamed, further ones come at the end;
-- docs/results.md describes them. All begin with "results", for tables have the shorter names.
-- DAY, SECONDS, PHASE and READING are written out by db/views.py, for SQLite and PostgreSQL differ there.

CREATE VIEW results AS
SELECT
    s.study_instance_uid, s.patient_id, s.patient_name, s.patient_birth_date, s.patient_sex,
    s.accession_number, s.study_date, s.study_description, s.calling_ae_title,
    a.revision, CASE WHEN a.id = s.last_analysis_id THEN 1 ELSE 0 END AS is_last,
    a.state, a.verdict, a.probability, a.threshold, a.reason, a.completeness,
    a.model, a.model_digest, a.runtime, a.priority, a.attempts, a.withdrawn,
    a.created_at AS complete_at, a.started_at, a.finished_at, DAY(a.finished_at) AS finished_on,
    SECONDS(a.created_at, a.finished_at) AS seconds,
    PHASE(wait) AS wait_s, PHASE(read) AS read_s, PHASE(choose) AS choose_s, PHASE(decode) AS decode_s,
    PHASE(coverage) AS coverage_s, PHASE(predict) AS predict_s, PHASE(compose) AS compose_s,
    PHASE(write) AS write_s,
    READING(value) AS corrected, READING(reader) AS corrected_by
FROM analyses a JOIN studies s ON s.id = a.study_id;

CREATE VIEW results_studies AS
SELECT
    s.study_instance_uid, s.patient_id, s.patient_name, s.patient_birth_date, s.patient_sex,
    s.accession_number, s.study_date, s.study_description,
    s.calling_ae_title, s.called_ae_title, s.address, s.rule,
    s.state, s.revision, s.completeness, s.completeness_kind,
    s.created_at AS received_at, s.changed_at, DAY(s.created_at) AS received_on,
    (SELECT count(*) FROM instances i WHERE i.study_id = s.id) AS instances,
    (SELECT coalesce(sum(i.size), 0) FROM instances i WHERE i.study_id = s.id) AS bytes,
    s.last_state, s.last_verdict, s.last_probability, s.last_model
FROM studies s;

CREATE VIEW results_deliveries AS
SELECT
    d.id, s.study_instance_uid, s.patient_id, s.accession_number, a.revision,
    d.destination, d."group" AS output, d.state, d.attempts, d.reason, d.advice,
    d.created_at, d.due_at, d.finished_at, DAY(d.finished_at) AS finished_on,
    SECONDS(a.created_at, d.finished_at) AS seconds
FROM deliveries d JOIN analyses a ON a.id = d.analysis_id JOIN studies s ON s.id = a.study_id;

CREATE VIEW results_labels AS
SELECT
    s.study_instance_uid, s.patient_id, s.accession_number, s.study_date,
    l.value, l.source, l.reader, l.labelled_on, l.symptomatic, l.created_at,
    s.last_verdict AS verdict, s.last_probability AS probability, s.last_model AS model
FROM labels l JOIN studies s ON s.id = l.study_id;

CREATE VIEW results_feedback AS
SELECT
    s.study_instance_uid, s.patient_id, s.accession_number,
    f.reader, f.agreement, f.value, f.remark, f.changed_at,
    a.revision, a.verdict, a.probability, a.model
FROM feedback f JOIN studies s ON s.id = f.study_id JOIN analyses a ON a.id = f.analysis_id;

CREATE VIEW results_models AS
SELECT m.name, m.version, m.digest, m.state, m.created_at, m.activated_at, p.digest AS predecessor
FROM models m LEFT JOIN models p ON p.id = m.predecessor_id;

CREATE VIEW results_shadow AS
SELECT
    s.study_instance_uid, a.revision, a.model, a.verdict, a.probability,
    h.model AS shadow_model, h.verdict AS shadow_verdict, h.probability AS shadow_probability,
    h.threshold AS shadow_threshold, h.created_at
FROM shadow_results h JOIN analyses a ON a.id = h.analysis_id JOIN studies s ON s.id = a.study_id;

CREATE VIEW results_audit AS
SELECT e.id, e.at, DAY(e.at) AS day, e.actor, e.action, e.subject, e.outcome
FROM audit_events e;
