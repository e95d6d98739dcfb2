"""Which of the Latin 8-bit encodings a text is in, by the letters of the languages that are kept in each.

A detector that goes by how often letters stand together takes short French for Hungarian. The letters alone decide
better: `è ý ø ž` is odd in every Western language, and `č ý ř ž`, the same bytes in cp1250, is Czech.
"""

from collections import Counter

_SIGNS = "“”„‘’‚‹›«»–—…•€£¥§©®°±·×÷½¼¾²³µ¿¡ªº\u00a0\u00ad™†‰"
_WEST = ("éèêëàâæçîïôœùûü", "äöüß", "áéíóúñü", "áâãàçéêíóôõú", "àèéìíîòóù", "åäöæøéüó", "áðéíóúýþæö", "äëïéèöüóíá")
_CENTRE = ("áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "ąćęłńóśźż", "áéíóöőúüű", "ăâîșşțţ", "čćđšž")
_ALPHABETS = (
    ("cp1252", _WEST),
    ("cp1250", _CENTRE),
    ("iso8859_2", _CENTRE),
    ("cp1254", ("çğıöşüâîû\u0307",)),  # the dot of a lowered İ
    ("cp1257", ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž")),
    ("mac_roman", _WEST),
    ("cp850", _WEST),
)
LATIN = frozenset(encoding for encoding, _ in _ALPHABETS)


def latin_encoding(data: bytes) -> str | None:
    """The encoding in which most of what is not ASCII is letters of one language; the first of equals.

    None where the bytes are whole in none of them.
    """
    best, most = None, -1
    for encoding, alphabets in _ALPHABETS:
        try:
            found = Counter(data.decode(encoding).lower())
        except UnicodeDecodeError:
            continue
        num_known = max(sum(found[letter] for letter in {*alphabet, *_SIGNS}) for alphabet in alphabets)
        if num_known > most:
            best, most = encoding, num_known
    return best
