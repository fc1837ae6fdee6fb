-- The tables of MIMIC-IV joined with studies: what was on record before each of them. The rules stand in contexts.py.
-- In: the views of hosp.py, the table `studies(n, subject_id, study_id, study_time)`, and the variables lab_days and medication_days.
-- Out: found_patients, found_admissions, found_labs, found_medications, found_diagnoses, found_targets and left_out, each by study number n.

create macro clean(cell) as nullif(trim(regexp_replace(cell, '\s+', ' ', 'g')), '');
create macro is_masked(cell) as coalesce(contains(cell, '___'), false);
create macro readable(cell) as case when is_masked(cell) then null else clean(cell) end;
create macro moment(cell) as case when length(trim(cell)) = 19 then try_cast(trim(cell) as timestamp) end; -- to the second, or none
create macro amount(cell) as case when isfinite(try_cast(trim(cell) as double)) then try_cast(trim(cell) as double) end;
create macro iso(time) as strftime(time, '%Y-%m-%dT%H:%M:%S');

create table left_out(n bigint, reason varchar, number bigint);

-- patients ---------------------------------------------------------------------------------------------------------------------------
create table found_patients as
select n, study_id, subject_id, iso(study_time) as study_time, gender, anchor_age, anchor_year, year(study_time) as study_year
from studies left join (
    select subject_id, min(upper(clean(gender))) as gender, min(try_cast(anchor_age as integer)) as anchor_age,
        min(try_cast(anchor_year as integer)) as anchor_year
    from patients where subject_id in (select subject_id from studies) group by subject_id
) using (subject_id);

-- admissions -------------------------------------------------------------------------------------------------------------------------
create table stays as
select subject_id, hadm_id, moment(admittime) as began, moment(dischtime) as ended, readable(admission_type) as kind,
    readable(admission_location) as origin
from admissions where subject_id in (select subject_id from studies);

create table containing as
select n, study_time, subject_id, hadm_id, began, kind, nullif(origin, 'INFORMATION NOT AVAILABLE') as origin,
    row_number() over (partition by n order by began desc, ended, hadm_id) as place
from studies join stays using (subject_id)
where began <= study_time and study_time <= ended;

create table found_admissions as
select n, hadm_id, iso(began) as admittime, cast((epoch(study_time) - epoch(began)) as bigint) // 86400 + 1 as day, kind, origin, service
from containing left join (
    select n, readable(curr_service) as service
    from containing join services using (subject_id, hadm_id)
    where place = 1 and moment(transfertime) < study_time and service is not null
    qualify row_number() over (partition by n order by moment(transfertime) desc, service) = 1
) using (n)
where place = 1;

insert into left_out select n, 'admissions_overlapping', count(*) from containing where place > 1 group by n;
insert into left_out
select n, 'admissions_without_times', count(*) from studies join stays using (subject_id)
where (began <= ended) is not true group by n;

-- laboratory results -------------------------------------------------------------------------------------------------------------------
create table lab_rows as
select n, study_time, labevent_id, trim(itemid) as itemid, moment(charttime) as charted, moment(storetime) as stored,
    is_masked(value) as is_value_masked, coalesce(readable(value), readable(valuenum)) as printed, amount(valuenum) as number,
    readable(valueuom) as unit, amount(ref_range_lower) as lower_end, amount(ref_range_upper) as upper_end,
    coalesce(lower(trim(flag)) = 'abnormal', false) as is_flagged
from labevents join studies using (subject_id)
where charted is null or (charted < study_time and charted >= study_time - to_days(cast(getvariable('lab_days') as integer)));

create table lab_judged as
select lab_rows.*, label, specimen, case
    when charted is null then 'labs_without_charttime'
    when stored is null then 'labs_without_storetime'
    when stored >= study_time then 'labs_not_stored_before_the_study'
    when label is null then 'labs_without_label'
    when printed is null and is_value_masked then 'labs_masked'
    when printed is null then 'labs_without_value'
    end as reason
from lab_rows left join (
    select trim(itemid) as itemid, min(readable(label)) as label,
        nullif(concat_ws(', ', min(readable(fluid)), min(readable(category))), '') as specimen
    from d_labitems group by all
) using (itemid);
drop table lab_rows;

create table lab_places as
select n, itemid, label, specimen, labevent_id, charted, stored, printed, unit, case
        when number > upper_end then 'high'
        when number < lower_end then 'low'
        when is_flagged then 'abnormal'
    end as level,
    greatest(number - upper_end, lower_end - number) / nullif(upper_end - lower_end, 0) as excess, -- in widths of the range; null without one
    row_number() over latest_first as place,
    case when lead(charted) over latest_first < charted and lead(unit) over latest_first is not distinct from unit
        then sign(number - lead(number) over latest_first) end as direction, -- null where one of the two is no number
    lead(printed) over latest_first as previous_printed, lead(labevent_id) over latest_first as previous_labevent_id
from lab_judged where reason is null
window latest_first as (
    partition by n, itemid order by charted desc, stored desc, try_cast(labevent_id as bigint) desc nulls last, labevent_id desc
);

insert into left_out select n, reason, count(*) from lab_judged where reason is not null group by n, reason;
drop table lab_judged;
insert into left_out
select n, case when place > 1 then 'labs_superseded' else 'labs_normal' end as why, count(*)
from lab_places where place > 1 or level is null group by n, why;

create table found_labs as
select n, row_number() over (partition by n order by charted desc, excess desc nulls last, label, specimen nulls first, itemid) as rank,
    labevent_id, itemid, label, specimen, printed, unit, level, iso(charted) as charttime, iso(stored) as storetime, cast(direction as integer) as direction,
    previous_printed, previous_labevent_id
from lab_places where place = 1 and level is not null;
drop table lab_places;

-- medications ------------------------------------------------------------------------------------------------------------------------
create table medication_rows as
select n, moment(starttime) as started, clean(drug) as drug, clean(dose_val_rx) as dose, clean(dose_unit_rx) as dose_unit,
    clean(prescriptions.route) as route, case
    when started is null then 'medications_without_starttime'
    when upper(trim(drug_type)) is distinct from 'MAIN' then 'medications_not_main'
    when is_masked(prescriptions.drug) or is_masked(dose_val_rx) or is_masked(dose_unit_rx) or is_masked(prescriptions.route)
        then 'medications_masked'
    when clean(prescriptions.drug) is null then 'medications_without_name'
    end as reason
from prescriptions join studies using (subject_id)
where started is null
    or (started < study_time and started >= study_time - to_days(cast(getvariable('medication_days') as integer)));

create table medication_places as
select *, row_number() over (
    partition by n, lower(drug) order by started desc, drug, dose nulls last, dose_unit nulls last, route nulls last) as place
from medication_rows where reason is null;

insert into left_out select n, reason, count(*) from medication_rows where reason is not null group by n, reason;
insert into left_out select n, 'medications_repeated', count(*) from medication_places where place > 1 group by n;

create table found_medications as
select n, row_number() over (partition by n order by started desc, drug) as rank, drug, dose, dose_unit, route, iso(started) as starttime
from medication_places where place = 1;

-- diagnoses --------------------------------------------------------------------------------------------------------------------------
create table coded as
select subject_id, hadm_id, try_cast(seq_num as integer) as seq_num, readable(diagnoses_icd.icd_code) as icd_code,
    clean(diagnoses_icd.icd_version) as icd_version, title
from diagnoses_icd left join (
    select clean(icd_code) as title_code, clean(icd_version) as title_version, min(readable(long_title)) as title
    from d_icd_diagnoses group by all
) on title_code = clean(diagnoses_icd.icd_code) and title_version = clean(diagnoses_icd.icd_version)
where subject_id in (select subject_id from studies);

create table earlier as
select n, ended, hadm_id, seq_num, icd_code, icd_version, title,
    seq_num is not null and icd_code is not null and icd_version is not null as is_readable,
    row_number() over (partition by n, is_readable, icd_version, icd_code order by ended desc, hadm_id, seq_num) as place
from studies join stays using (subject_id) join coded using (subject_id, hadm_id)
where began <= ended and ended < study_time;

insert into left_out
select n, case when is_readable then 'diagnoses_repeated' else 'diagnoses_without_code' end as why, count(*)
from earlier where not is_readable or place > 1 group by n, why;

create table found_diagnoses as
select n, row_number() over (partition by n order by ended desc, hadm_id, seq_num, icd_code) as rank, hadm_id, seq_num, icd_code,
    icd_version, title
from earlier where is_readable and place = 1;

create table targets as
select n, hadm_id, seq_num, icd_code, icd_version, title,
    seq_num is not null and icd_code is not null and icd_version is not null as is_readable
from containing join coded using (subject_id, hadm_id) where place = 1;

insert into left_out select n, 'target_diagnoses_without_code', count(*) from targets where not is_readable group by n;

create table found_targets as
select n, row_number() over (partition by n order by seq_num, icd_code, icd_version) as rank, hadm_id, seq_num, icd_code, icd_version, title
from targets where is_readable;
