"""Sentences for invented transcriptions: per specialty, what the sections of a note may say.

In: a specialty and a source of chance. Out: a ``Note``, its sections filled with sentences and numbers. No name, date, place or real case
is in here. How a note is written into the publisher's layouts is decided in ``mtsamples``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from medvl_lib.sample_data import draws

Sections = Mapping[str, tuple[str, ...]]
"""Heading -> the sentences it may draw from; ``|`` parts those that would contradict each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """What notes of one kind have in common."""

    specialty: str
    sample_name: str
    description: str
    sections: Sections
    keywords: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One invented note."""

    topic: Topic
    sections: tuple[tuple[str, tuple[str, ...]], ...]
    """Heading and sentences, numbers filled in."""


TOPICS = (
    Topic(
        specialty="Allergy / Immunology",
        sample_name="Seasonal Rhinitis",
        description="Sneezing and itchy eyes every spring.",
        keywords=("allergic rhinitis", "antihistamine", "nasal spray"),
        sections={
            "SUBJECTIVE": (
                "This {age}-year-old {person} reports sneezing for {weeks} weeks.",
                "Symptoms are worse outdoors and in the morning.",
                "Over-the-counter tablets helped for about {days} days.",
                "There is no wheezing and no fever.",
            ),
            "MEDICATIONS": ("Loratadine {tens} mg daily.", "A saline spray as needed.", "No other medication."),
            "OBJECTIVE": ("Temperature is {fever} and pulse is {pulse}.", "The nasal mucosa is pale and swollen.", "The lungs are clear."),
            "ASSESSMENT": ("Seasonal allergic rhinitis.", "Allergic conjunctivitis, mild."),
            "PLAN": ("Fluticasone spray, two puffs in each nostril daily.", "Return in {weeks} weeks if there is no relief."),
        },
    ),
    Topic(
        specialty="Urology",
        sample_name="Ureteral Stone - Consult",
        description="Flank pain.  Ureteral stone on CT.",
        keywords=("ureteral stone", "hydronephrosis", "flank pain"),
        sections={
            "CHIEF COMPLAINT": ("Pain in the {side} flank for {days} days.",),
            "HISTORY OF PRESENT ILLNESS": (
                "The patient is a {age}-year-old {person} with colicky pain.",
                "Nausea was present, vomiting was not.",
                "The pain was rated {score} out of 10.",
                "There was one earlier stone {years} years ago.",
            ),
            "ALLERGIES": ("None known.|Sulfa drugs, with a rash.",),
            "PHYSICAL EXAMINATION": (
                "Blood pressure is {systolic}/{diastolic}.",
                "The abdomen is soft.",
                "The {side} flank is tender to percussion.",
            ),
            "IMPRESSION": ("A {stone} mm stone in the {side} ureter with mild hydronephrosis.",),
            "PLAN": ("Tamsulosin 0.4 mg daily and fluids.", "A repeat film in {weeks} weeks.", "Ureteroscopy if the stone does not pass."),
        },
    ),
    Topic(
        specialty="Cardiovascular / Pulmonary",
        sample_name="Echocardiogram Report",
        description="2-D echocardiogram with Doppler.",
        keywords=("ejection fraction", "doppler", "left ventricle"),
        sections={
            "INDICATION": ("Shortness of breath on exertion for {weeks} weeks.", "A murmur heard on examination."),
            "FINDINGS": (
                "The left ventricle measures {lv} cm in diastole.",
                "The ejection fraction is {fraction} percent.",
                "The left atrium is mildly enlarged.",
                "There is trace mitral regurgitation.",
                "No pericardial effusion is seen.",
            ),
            "DOPPLER": ("The peak aortic velocity is {velocity} m/s.", "Right ventricular systolic pressure is {pressure} mmHg."),
            "CONCLUSION": ("Systolic function is preserved.|Systolic function is mildly reduced.", "Follow-up in {months} months."),
        },
    ),
    Topic(
        specialty="Orthopedic",
        sample_name="Knee Arthroscopy",
        description="Arthroscopy of the knee with partial meniscectomy.",
        keywords=("arthroscopy", "meniscus", "tourniquet"),
        sections={
            "PREOPERATIVE DIAGNOSIS": ("Medial meniscus tear of the {side} knee.",),
            "PROCEDURE": ("Arthroscopy of the {side} knee with partial medial meniscectomy.",),
            "ANESTHESIA": ("General.|Spinal.",),
            "DESCRIPTION": (
                "The {side} leg was prepared and draped.",
                "A tourniquet was inflated to {cuff} mmHg for {minutes} minutes.",
                "The torn edge was trimmed to a stable rim.",
                "The cartilage showed grade {grade} change.",
                "The joint was rinsed.",
            ),
            "BLOOD LOSS": ("About {tens} mL.",),
            "DISPOSITION": ("To the recovery room in stable condition.",),
        },
    ),
    Topic(
        specialty="Gastroenterology",
        sample_name="Colonoscopy - Screening",
        description="Screening colonoscopy with removal of a polyp.",
        keywords=("colonoscopy", "polyp", "cecum"),
        sections={
            "INDICATION": ("Screening in a {age}-year-old {person}.", "Polyps in a brother."),
            "MEDICATIONS": ("Midazolam {small} mg and fentanyl {tens} mcg.",),
            "PROCEDURE": (
                "The scope was passed to the cecum in {minutes} minutes.",
                "Preparation was good.",
                "A {stone} mm polyp in the sigmoid colon was removed by snare.",
                "The rectum was normal on retroflexion.",
            ),
            "IMPRESSION": ("One sigmoid polyp, removed.", "Small internal hemorrhoids."),
            "RECOMMENDATIONS": ("Repeat in {years} years, depending on pathology.", "A diet high in fiber."),
        },
    ),
    Topic(
        specialty="Radiology",
        sample_name="Chest X-Ray - 2",
        description="Two views of the chest.",
        keywords=("chest", "infiltrate", "effusion"),
        sections={
            "EXAM": ("Two views of the chest.",),
            "HISTORY": ("Cough for {days} days.|Fall {days} days ago with pain on the {side} side.", "No earlier films."),
            "FINDINGS": (
                "The heart is normal in size.",
                "There is an infiltrate in the {side} lower lobe.|A nodule of {stone} mm lies in the {side} upper lobe.",
                "No effusion and no pneumothorax.",
            ),
            "IMPRESSION": (
                "An opacity on the {side} that was described above.",
                "A follow-up film in {weeks} weeks is suggested.",
            ),
        },
    ),
    Topic(
        specialty="Discharge Summary",
        sample_name="Heart Failure - Discharge",
        description="Admission for decompensated heart failure.",
        keywords=("heart failure", "diuresis", "furosemide"),
        sections={
            "ADMISSION DIAGNOSIS": ("Decompensated heart failure.",),
            "HOSPITAL COURSE": (
                "This {age}-year-old {person} came with swelling of both legs.",
                "Furosemide {tens} mg was given twice daily.",
                "The weight fell by {small} kg over {days} days.",
                "Oxygen was no longer needed after day {small}.",
            ),
            "LABORATORY": ("Sodium was {sodium} and potassium {potassium}.", "Creatinine was {creatinine} at discharge."),
            "DISCHARGE MEDICATIONS": ("Lisinopril {tens} mg daily.", "Carvedilol 6.25 mg twice daily.", "Furosemide 40 mg daily."),
            "FOLLOW-UP": ("In the clinic in {weeks} weeks with a weight diary.",),
        },
    ),
    Topic(
        specialty="Neurology",
        sample_name="Migraine - Office Visit",
        description="Follow-up visit for migraine without aura.",
        keywords=("migraine", "headache", "triptan"),
        sections={
            "REASON FOR VISIT": ("Headache on {days} days a month.",),
            "HISTORY": (
                "The patient, a {age}-year-old {person}, describes throbbing pain on the {side}.",
                "Light and noise make it worse.",
                "The patient’s attacks last {minutes} minutes to a day.",
                "Sumatriptan {tens} mg helps within an hour.",
            ),
            "EXAMINATION": ("Blood pressure {systolic}/{diastolic}, pulse {pulse}.", "Cranial nerves are intact.", "Gait is normal."),
            "ASSESSMENT AND PLAN": (
                "Migraine without aura.",
                "Propranolol {tens} mg as a preventive.",
                "A headache diary for {months} months.",
            ),
        },
    ),
)


def _numbers(chance: Random) -> dict[str, str]:
    """What the braces in the sentences stand for, drawn once per note so that it does not contradict itself."""
    return {
        "age": str(draws.whole(chance, 19, 88)),
        "person": draws.pick(chance, ("woman", "man")),
        "side": draws.pick(chance, ("left", "right")),
        "days": str(draws.whole(chance, 2, 14)),
        "weeks": str(draws.whole(chance, 2, 12)),
        "months": str(draws.whole(chance, 2, 12)),
        "years": str(draws.whole(chance, 2, 10)),
        "minutes": str(draws.whole(chance, 5, 90)),
        "score": str(draws.whole(chance, 3, 10)),
        "tens": str(10 * draws.whole(chance, 1, 8)),
        "small": str(draws.whole(chance, 2, 6)),
        "stone": str(draws.whole(chance, 3, 14)),
        "grade": str(draws.whole(chance, 1, 3)),
        "pulse": str(draws.whole(chance, 54, 118)),
        "fever": draws.decimal(chance, 97.2, 102.8, 1),
        "systolic": str(draws.whole(chance, 98, 176)),
        "diastolic": str(draws.whole(chance, 56, 96)),
        "lv": draws.decimal(chance, 4.0, 6.8, 1),
        "fraction": str(draws.whole(chance, 30, 68)),
        "velocity": draws.decimal(chance, 1.0, 4.6, 1),
        "cuff": str(10 * draws.whole(chance, 24, 34)),
        "pressure": str(draws.whole(chance, 20, 62)),
        "sodium": str(draws.whole(chance, 126, 146)),
        "potassium": draws.decimal(chance, 3.1, 5.4, 1),
        "creatinine": draws.decimal(chance, 0.7, 2.4, 1),
    }


def draw_note(chance: Random, number: int) -> Note:
    """The note of this number: topics in turn, half to all of the sentences of each section."""
    topic = TOPICS[number % len(TOPICS)]
    numbers = _numbers(chance)
    sections: list[tuple[str, tuple[str, ...]]] = []
    for heading, sentences in topic.sections.items():
        count = draws.whole(chance, (len(sentences) + 1) // 2, len(sentences))
        chosen = [draws.pick(chance, sentence.split("|")) for sentence in draws.some(chance, sentences, count)]
        sections.append((heading, tuple(sentence.format(**numbers) for sentence in chosen)))
    return Note(topic=topic, sections=tuple(sections))
