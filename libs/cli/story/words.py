"""The words that generated customers are made of."""

import random
from collections.abc import Sequence

CITIES = ("Hamburg", "Leipzig", "Graz", "Basel", "Utrecht", "Malmö", "Bolzano", "Strasbourg")
CRAFTS = ("clay", "glaze", "kiln", "raku", "slip", "bisque", "stoneware")
CAMPAIGNS = ("Autumn glazes", "Winter firing school", "A second kiln, 20 % off")
ARTICLES = (
    ("Celadon glaze, 5 l", 64),
    ("Set of shelves", 145),
    ("Pyrometric cones, box of 50", 18),
    ("Stoneware clay, 12.5 kg", 21),
    ("Ember 60 kiln", 2190),
    ("Heat-proof gloves", 39),
    ("Ember 120 kiln", 3890),
)
PLAIN_LETTERS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "é": "e", "ø": "o"})

# Names stand in a row, since lists of fifty lines are no pleasure to read.
FIRST_NAMES = (
    "Adela Bastian Carlotta Dorian Elif Fabrice Greta Henning Ilka Joris Katja Leopold Mirela Nils"
    " Odile Piotr Quirin Rosalie Sander Tilda Ulrike Vincent Wanda Xenia Yannick Zora Anselm"
    " Birgit Cosima Detlef"
)
LAST_NAMES = (
    "Achterberg Brückner Castellani Dragomir Eisenhut Feddersen Grünwald Haverkamp Isenberg"
    " Jankowski Kolbenschlag Lindqvist Morgenroth Nordhausen Oltmanns Pfefferkorn Quistorp"
    " Rautenbach Schimmelpfennig Tannhäuser Uhlenbrock Vandermeer Wackernagel Xanthakis Yildirim"
    " Zwingmann Abendroth Bockelmann Cornelius Dinkelacker Ehrenfeucht Falkenried Gottschalk"
    " Hollenstein Immendorf Jessenberger Kaltenbrunn Leutheusser Mühlhausen Nachtigall"
    " Obermoser Petersdorff Reichenbach Sommerfeld Thalheimer Unterberg Vogelsang Weizenegger"
    " Zeilinger Zumthor"
)

QUESTIONS = (
    "Where is the invoice for the {thing}?",
    "Can the {thing} be sent to {place}?",
    "Is the {thing} safe for {use}?",
    "The {thing} arrived with a crack",
    "How long does the {thing} last with {use}?",
    "A word of thanks for the {thing}",
)
CALL_NOTES = (
    "uses the {thing} for {use} and asks how to go on.",
    "would like the {thing} collected from {place}.",
    "was friendly and patient about the {thing} that went to {place}.",
    "thinks of a larger {thing}, for {use} from spring.",
)
MAILS = (
    "The {thing} works well for {use}, but the lid no longer closes. What shall I do? Regards,",
    "Please send the {thing} to {place} instead; I moved last month. Thank you,",
    "I compared your {thing} with two others, for {use}, and yours won. Best wishes,",
)
ANSWERS = (
    "the {thing} leaves our workshop on Thursday and goes straight to {place}.",
    "for {use} we advise a slower curve; a sheet is attached to the {thing}.",
    "you are right about the {thing}, and a new one goes to {place} today.",
)
POSTS = (
    "Third week with the {thing}: {use} has never been this calm.",
    "Does anybody near {place} lend out a {thing} for {use}?",
    "My {thing} and I disagree about {use}. So far it is winning.",
)
CASES = (
    "{thing} shows error 14 during {use}",
    "{thing} damaged on its way to {place}",
    "{thing} heats unevenly with {use}",
)
PROMISES = (
    "A new {thing} arrives at {place}",
    "A technician looks at the {thing} and its {use}",
    "Somebody calls back about the {thing}",
)
SIGNALS = (
    ("delay", "The parcel with the {thing} waits at the depot of {place}."),
    ("recall", "The {thing} belongs to a batch that must not be used for {use}."),
)
_THINGS = (
    "kiln lid",
    "touch panel",
    "shelf set",
    "cone box",
    "thermocouple",
    "vent hood",
    "glaze bucket",
    "door seal",
    "fuse kit",
    "floor stand",
)
_USES = (
    "crystalline glazes",
    "school classes",
    "slow bisque",
    "porcelain beads",
    "tile samples",
    "once-fired mugs",
    "oxblood trials",
    "saggar firing",
)
_PLACES = (
    "the mill in Ahrensburg",
    "the old dairy",
    "the boathouse",
    "the school on the hill",
    "the courtyard behind number nine",
    "the market hall",
)


def sentence(rng: random.Random, templates: Sequence[str]) -> str:
    """Returns one of some templates, filled by chance."""
    return rng.choice(templates).format(
        thing=rng.choice(_THINGS), use=rng.choice(_USES), place=rng.choice(_PLACES)
    )
