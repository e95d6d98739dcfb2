"""Which of the Latin 8-bit encodings a text is in, by the letters of the languages that are kept in each.

A detector that goes by how often letters stand together takes short French for Hungarian. The letters alone decide
better: `è ý ø ž` is odd in every Western language, and `č ý ř ž`, the same bytes in cp1250, is Czech.
"""

_SIGNS = "“”„‘’‚‹›«»–—…•€£¥§©®°±·×÷½¼¾²³µ¿¡ªº\u00a0\u00ad™†‰"
_WEST = ("éèêëàâæçîïôœùûü", "äöüß", "áéíóúñü", "áâãàçéêíóôõú", "àèéìíîòóù", "åäöæøéüó", "áðéíóúýþæö", "äëïéèöüóíá")
_CENTRE = ("áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "ąćęłńóśźż", "áéíóöőúüű", "ăâîșşțţ", "čćđšž")
_ALPHABETS = (
    ("cp1252", _WEST),
    ("cp1250", _CENTRE),
    ("iso8859_2", _CENTRE),
    ("cp1254", ("çğıöşüâîûi̇",)),
    ("cp1257", ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž")),
    ("mac_roman", _WEST),
    ("cp850", _WEST),
)
LATIN = frozenset(encoding for encoding, _ in _ALPHABETS)


def latin_encoding(data: bytes) -> str | None:
    """The encoding in which most of what is not ASCII is letters of one language; the first of equals.

    None where the bytes are whole in none of them.
    """
    best, most = None, -1.0
    for encoding, alphabets in _ALPHABETS:
        try:
            letters = [letter for letter in data.decode(encoding).lower() if not letter.isascii()]
        except UnicodeDecodeError:
            continue
        share = max(sum(letter in alphabet or letter in _SIGNS for letter in letters) for alphabet in alphabets)
        if share > most:
            best, most = encoding, share
    return best
