"""What the ten kinds of clinical document state: for each kind its own pool of terms, with values that a real form could show.

In: a document type and a source of chance. Out: the facts of one document, in the order of the pool. Every value is invented; the ranges
span the usual and the clearly abnormal. Terms have at most 16 characters, values 8 and units 9, so that they fit a form's columns.
How a form looks is decided in ``clinical_layouts``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from medvl_lib.pairs import Triple
from medvl_lib.sample_data import draws

MAX_TERM_CHARACTERS = 16
MAX_ANSWER_CHARACTERS = 300  # of a page's facts in a list; the small models spend a token per byte


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A number with a unit: ``low`` to ``high`` in steps of its last decimal."""

    term: str
    low: float
    high: float
    decimals: int
    unit: str

    def value(self, chance: Random) -> str:
        """The number as printed."""
        return draws.decimal(chance, self.low, self.high, self.decimals)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One of a few words or usual strengths."""

    term: str
    options: tuple[str, ...]
    unit: str

    def value(self, chance: Random) -> str:
        """The word as printed."""
        return draws.pick(chance, self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """Two numbers with a slash, the upper one larger."""

    term: str
    lower: tuple[int, int]
    difference: tuple[int, int]
    unit: str

    def value(self, chance: Random) -> str:
        """Both numbers as printed."""
        low = draws.whole(chance, *self.lower)
        return f"{low + draws.whole(chance, *self.difference)}/{low}"


Source = Quantity | Options | Pressure


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentType:
    """One kind of form."""

    name: str
    title: str
    num_facts: tuple[int, int]
    """Fewest and most facts on a page."""
    pool: tuple[Source, ...]


def _q(term: str, low: float, high: float, decimals: int, unit: str) -> Quantity:
    return Quantity(term=term, low=low, high=high, decimals=decimals, unit=unit)


def _o(term: str, unit: str, *options: str) -> Options:
    return Options(term=term, options=options, unit=unit)


BLOOD_PRESSURE = Pressure(term="Blood pressure", lower=(48, 104), difference=(28, 84), unit="mmHg")
HEART_RATE = _q("Heart rate", 44, 148, 0, "/min")
TEMPERATURE = _q("Temperature", 35.2, 40.4, 1, "°C")

DOCUMENT_TYPES = (
    DocumentType(
        name="patient_diagnosis",
        title="Patient Diagnosis",
        num_facts=(4, 6),
        pool=(
            BLOOD_PRESSURE,
            HEART_RATE,
            TEMPERATURE,
            _q("Body mass index", 17.2, 46.8, 1, "kg/m²"),
            _q("HbA1c", 4.8, 13.6, 1, "%"),
            _q("Fasting glucose", 68, 312, 0, "mg/dL"),
            _q("LDL cholesterol", 52, 226, 0, "mg/dL"),
            _q("eGFR", 14, 118, 0, "mL/min"),
            _q("Pain score", 0, 10, 0, "/10"),
            _q("Symptom duration", 2, 26, 0, "weeks"),
            _o("Severity", "", "mild", "moderate", "severe"),
            _o("Onset", "", "acute", "subacute", "gradual"),
            _q("Next review", 1, 12, 0, "months"),
        ),
    ),
    DocumentType(
        name="radiology_report",
        title="Radiology Report",
        num_facts=(4, 6),
        pool=(
            _q("Nodule size", 3, 34, 0, "mm"),
            _q("Effusion depth", 4, 62, 0, "mm"),
            _q("Liver span", 10.4, 19.8, 1, "cm"),
            _q("Spleen length", 7.6, 17.4, 1, "cm"),
            _q("Kidney length", 8.2, 13.6, 1, "cm"),
            _q("Aortic diameter", 1.8, 6.4, 1, "cm"),
            _q("Bile duct", 2, 16, 0, "mm"),
            _q("Mean density", -90, 240, 0, "HU"),
            _q("Slice thickness", 0.6, 5.0, 1, "mm"),
            _q("Contrast volume", 40, 130, 0, "mL"),
            _q("Heart ratio", 0.38, 0.68, 2, ""),
            _o("Pneumothorax", "", "absent", "small", "large"),
            _o("Fracture", "", "none", "healed", "acute"),
        ),
    ),
    DocumentType(
        name="prescription",
        title="Prescription",
        num_facts=(4, 6),
        pool=(
            _o("Amoxicillin", "mg", "250", "500", "875"),
            _o("Metformin", "mg", "500", "850", "1000"),
            _o("Ibuprofen", "mg", "200", "400", "600"),
            _o("Prednisone", "mg", "5", "10", "20", "40"),
            _o("Sertraline", "mg", "25", "50", "100", "150"),
            _o("Omeprazole", "mg", "10", "20", "40"),
            _o("Levothyroxine", "mcg", "25", "50", "75", "88", "112"),
            _o("Salbutamol", "mcg", "100", "200"),
            _q("Insulin glargine", 6, 48, 0, "units"),
            _q("Duration", 3, 30, 0, "days"),
            _q("Dispense", 6, 120, 0, "tablets"),
            _q("Refills", 0, 5, 0, ""),
            _q("Doses per day", 1, 4, 0, ""),
        ),
    ),
    DocumentType(
        name="lab_results",
        title="Laboratory Results",
        num_facts=(4, 6),
        pool=(
            _q("Sodium", 118, 158, 0, "mmol/L"),
            _q("Potassium", 2.4, 6.9, 1, "mmol/L"),
            _q("Chloride", 84, 122, 0, "mmol/L"),
            _q("Bicarbonate", 10, 38, 0, "mmol/L"),
            _q("Creatinine", 0.4, 6.8, 1, "mg/dL"),
            _q("Urea nitrogen", 5, 96, 0, "mg/dL"),
            _q("Glucose", 44, 388, 0, "mg/dL"),
            _q("Hemoglobin", 6.2, 18.4, 1, "g/dL"),
            _q("White cells", 1.2, 28.6, 1, "10^9/L"),
            _q("Platelets", 22, 640, 0, "10^9/L"),
            _q("CRP", 1, 268, 0, "mg/L"),
            _q("Calcium", 6.8, 13.2, 1, "mg/dL"),
        ),
    ),
    DocumentType(
        name="discharge_summary",
        title="Discharge Summary",
        num_facts=(4, 6),
        pool=(
            _q("Length of stay", 1, 28, 0, "days"),
            BLOOD_PRESSURE,
            HEART_RATE,
            TEMPERATURE,
            _q("Oxygen sat", 86, 100, 0, "%"),
            _q("Discharge weight", 42.0, 136.5, 1, "kg"),
            _q("Hemoglobin", 7.4, 16.2, 1, "g/dL"),
            _q("Creatinine", 0.4, 3.8, 1, "mg/dL"),
            _q("Pain score", 0, 8, 0, "/10"),
            _q("Wound length", 2, 18, 0, "cm"),
            _q("Walking distance", 10, 400, 0, "m"),
            _o("Condition", "", "stable", "improved", "guarded"),
            _q("Follow-up in", 3, 42, 0, "days"),
        ),
    ),
    DocumentType(
        name="medication_reconciliation",
        title="Medication Reconciliation",
        num_facts=(6, 9),
        pool=(
            _o("Lisinopril", "mg daily", "5", "10", "20", "40"),
            _o("Metoprolol", "mg BID", "25", "50", "100"),
            _o("Atorvastatin", "mg daily", "10", "20", "40", "80"),
            _o("Metformin", "mg BID", "500", "850", "1000"),
            _o("Furosemide", "mg daily", "20", "40", "80"),
            _o("Apixaban", "mg BID", "2.5", "5"),
            _o("Gabapentin", "mg TID", "100", "300", "600"),
            _o("Amlodipine", "mg daily", "2.5", "5", "10"),
            _o("Pantoprazole", "mg daily", "20", "40"),
            _o("Aspirin", "mg daily", "75", "81", "325"),
            _o("Levothyroxine", "mcg daily", "50", "75", "100", "125"),
            _q("Insulin glargine", 8, 52, 0, "u nightly"),
            _o("Vitamin D3", "IU daily", "400", "800", "1000", "2000"),
            _o("Spironolactone", "mg daily", "12.5", "25", "50"),
        ),
    ),
    DocumentType(
        name="icu_flowsheet",
        title="ICU Flowsheet",
        num_facts=(7, 10),
        pool=(
            _q("FiO2", 21, 100, 0, "%"),
            _q("PEEP", 4, 18, 0, "cmH2O"),
            _q("Tidal volume", 280, 620, 0, "mL"),
            _q("Resp rate", 8, 38, 0, "/min"),
            _q("MAP", 48, 112, 0, "mmHg"),
            _q("CVP", 1, 22, 0, "mmHg"),
            HEART_RATE,
            _q("SpO2", 80, 100, 0, "%"),
            _q("Lactate", 0.5, 11.8, 1, "mmol/L"),
            _q("Arterial pH", 7.02, 7.58, 2, ""),
            _q("PaCO2", 22, 84, 0, "mmHg"),
            _q("PaO2", 48, 240, 0, "mmHg"),
            _q("Norepinephrine", 1, 32, 0, "mcg/min"),
            _q("Propofol", 5, 60, 0, "mL/h"),
            _q("Urine output", 5, 180, 0, "mL/h"),
            _q("GCS", 3, 15, 0, ""),
        ),
    ),
    DocumentType(
        name="cardiology_consultation",
        title="Cardiology Consultation",
        num_facts=(6, 9),
        pool=(
            _q("LVEF", 15, 72, 0, "%"),
            _q("LVEDD", 3.6, 7.4, 1, "cm"),
            _q("LVESD", 2.2, 6.2, 1, "cm"),
            _q("LA diameter", 2.8, 6.4, 1, "cm"),
            _q("PA pressure", 18, 84, 0, "mmHg"),
            _q("Mean AV gradient", 4, 68, 0, "mmHg"),
            _q("E/A ratio", 0.4, 2.8, 1, ""),
            _q("TAPSE", 8, 28, 0, "mm"),
            _q("PR interval", 110, 260, 0, "ms"),
            _q("QRS duration", 76, 180, 0, "ms"),
            _q("QTc", 372, 540, 0, "ms"),
            HEART_RATE,
            _q("BNP", 20, 2400, 0, "pg/mL"),
            _q("Troponin I", 0.01, 9.80, 2, "ng/mL"),
            _q("LAD stenosis", 10, 95, 0, "%"),
        ),
    ),
    DocumentType(
        name="complex_lab_panel",
        title="Complex Laboratory Panel",
        num_facts=(7, 10),
        pool=(
            _q("ALT", 6, 480, 0, "U/L"),
            _q("AST", 8, 520, 0, "U/L"),
            _q("ALP", 32, 460, 0, "U/L"),
            _q("GGT", 8, 410, 0, "U/L"),
            _q("Bilirubin", 0.2, 14.6, 1, "mg/dL"),
            _q("Albumin", 1.6, 5.2, 1, "g/dL"),
            _q("INR", 0.8, 5.6, 1, ""),
            _q("D-dimer", 0.10, 6.80, 2, "mg/L"),
            _q("Ferritin", 6, 1420, 0, "ng/mL"),
            _q("TSH", 0.02, 18.40, 2, "mIU/L"),
            _q("Free T4", 0.4, 3.2, 1, "ng/dL"),
            _q("LDH", 110, 980, 0, "U/L"),
            _q("Lipase", 10, 920, 0, "U/L"),
            _q("Magnesium", 1.0, 3.4, 1, "mg/dL"),
            _q("Phosphate", 1.2, 8.4, 1, "mg/dL"),
            _q("Uric acid", 2.0, 12.6, 1, "mg/dL"),
            _q("Procalcitonin", 0.05, 24.00, 2, "ng/mL"),
            _q("Cortisol", 1.2, 48.0, 1, "mcg/dL"),
        ),
    ),
    DocumentType(
        name="operative_note",
        title="Operative Note",
        num_facts=(5, 8),
        pool=(
            _q("Operative time", 25, 420, 0, "min"),
            _q("Blood loss", 5, 1800, 0, "mL"),
            _q("IV fluids", 300, 5200, 0, "mL"),
            _q("Urine output", 50, 1400, 0, "mL"),
            _q("Incision length", 1.0, 28.0, 1, "cm"),
            _q("Tourniquet time", 15, 118, 0, "min"),
            _q("Specimen weight", 12, 860, 0, "g"),
            _q("Drain size", 10, 28, 0, "Fr"),
            _q("Insufflation", 8, 15, 0, "mmHg"),
            _q("Cefazolin", 1, 3, 0, "g"),
            _q("Fentanyl", 50, 500, 0, "mcg"),
            _o("ASA class", "", "I", "II", "III", "IV"),
            _q("Sponge count", 5, 40, 0, ""),
        ),
    ),
)
"""The ten document types of the requirement documents; their order numbers the documents' seeds, so a new one goes to the end."""


def draw_facts(kind: DocumentType, chance: Random) -> Sequence[Triple]:
    """The facts of one document: some of the pool, each term once, values drawn."""
    count = draws.whole(chance, *kind.num_facts)
    return [Triple(term=source.term, value=source.value(chance), unit=source.unit) for source in draws.some(chance, kind.pool, count)]
