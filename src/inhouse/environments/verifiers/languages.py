"""The language that a text is in: by its script, then by letters that only one language has, then by common words.

A small one, for texts of a sentence and more; published scores use the `langdetect` package, whose verdict on
a short or mixed text may differ (it is also random unless seeded; this is not).
"""

import unicodedata
from collections import Counter

_SCRIPTS = {  # first word of a letter's Unicode name: the languages written so, the commonest first
    "LATIN": ("en", "de", "fr", "es", "it", "pt", "nl", "sv", "fi", "vi", "sw", "pl", "tr", "id"),
    "CYRILLIC": ("ru", "bg", "uk"), "ARABIC": ("ar", "fa", "ur"), "DEVANAGARI": ("hi", "mr", "ne"),
    "BENGALI": ("bn",), "GUJARATI": ("gu",), "GURMUKHI": ("pa",), "KANNADA": ("kn",), "TAMIL": ("ta",),
    "TELUGU": ("te",), "MALAYALAM": ("ml",), "THAI": ("th",), "HANGUL": ("ko",), "HEBREW": ("he",), "GREEK": ("el",),
    "HIRAGANA": ("ja",), "KATAKANA": ("ja",), "CJK": ("zh",),
}  # fmt: skip
_OWN_LETTERS = {  # each is worth as much as a common word
    "de": "ßäöü", "fr": "êèçàœ", "es": "ñ¿¡", "it": "òìù", "pt": "ãõ", "sv": "å", "fi": "äö", "pl": "łśżźćńę",
    "tr": "ğış", "uk": "іїєґ", "ru": "ыэё", "fa": "پچژگکی", "ur": "ٹڈڑںےہھ", "mr": "ळ",
    "vi": "ăđơưạảấầẩậắằẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỹ",
}  # fmt: skip
_COMMON = {
    "en": "the of and to a in is that it for on with as was are be this have you not at by from or which his "
          "her they i my your an will can we all who but more one when has their if what do how about there its "
          "were than so our into just me no like out up would time only some could other new very after most "
          "also then these two may any been because where he she us had them over such people",
    "de": "der die das und ist nicht ein eine zu den von mit für auf dem sich des im es ich sie wir auch als an "
          "wie werden bei oder aus nach wird sind",
    "fr": "le la les de des et est un une en que qui pour dans pas sur au avec ce il elle nous vous plus sont "
          "par du ou mais cette",
    "es": "el la los las de y en que es un una por con para no se su del al lo como más pero sus este está son muy",
    "it": "il lo la gli le di che è e un una per con non si del della dei delle sono al nel come più ma anche "
          "questo da i",
    "pt": "o a os as de e que é um uma para com não se do da dos das em no na por mais como seu sua são mas ao ou",
    "nl": "de het een en van is dat niet op te in zijn voor met die aan er maar om ook als bij naar wordt",
    "sv": "och att det i en är som på av för med den till inte om ett har de jag var men så",
    "fi": "ja on ei että se hän ovat oli mutta kun niin kuin myös joka tai olla voi jos minä sinä tämä sen "
          "hyvin kanssa ole",
    "vi": "và là của có không được cho một các trong với người những này đã để khi đến như tôi bạn",
    "sw": "na ya wa kwa ni katika la za kuwa hii cha yake ambayo kama watu wake sana au pia hiyo yako ili "
          "lakini mimi wewe si",
    "pl": "i w na z do nie to się jest że o jak za po od przez dla co są ale czy",
    "tr": "ve bir bu da de için ile çok ne daha olarak gibi var mı ben en",
    "id": "yang dan di dari untuk dengan ini itu pada adalah tidak dalam akan ke juga atau saya anda",
    "ru": "и в не на я что он с как это по но они мы к у вы за из его от то для так же все или чтобы если",
    "bg": "и на да се от за не са в с е ще като по това си но което ми ни той тя са съм към или много със",
    "uk": "і в не на я що він з як це по але вони ми до у ви за та від для так чи або",
    "ar": "في من على أن إلى هذا هذه التي الذي لا ما هو هي مع كان عن أو كل ذلك قد",
    "fa": "و در به از که این را با است برای آن یک خود تا بر هم می های شما من",
    "ur": "کے کی میں ہے اور سے کا کو نے پر یہ ہیں کہ اس بھی ایک نہیں تھا",
    "hi": "है में के की का और से को हैं नहीं यह कि पर एक भी ने था हो लिए मैं आप",
    "mr": "आहे आणि या च्या मध्ये हे ते नाही आहेत का की मी तो ती होते करा तुम्ही एक साठी होता आपल्या",
    "ne": "छ र को मा छन् हो गर्न लागि यो भने पनि छैन गर्नुहोस् तपाईं म हुन्छ थियो हामी लाई एक गरेको भएको",
}  # fmt: skip
_COMMON_WORDS = {language: frozenset(words.split()) for language, words in _COMMON.items()}
_LEAST_SHARE = 0.02  # of the words: with fewer that are known, a text might be anything


def language_of(text: str) -> str | None:
    """The ISO 639-1 code of the language of most of a text; None where too little speaks for any."""
    text = unicodedata.normalize("NFC", text.lower())
    scripts = Counter(unicodedata.name(each, "").split(" ")[0].split("-")[0] for each in text if each.isalpha())
    known = [(count, script) for script, count in scripts.items() if script in _SCRIPTS]
    if not known:
        return None
    script = max(known)[1]
    if script == "CJK" and scripts["HIRAGANA"] + scripts["KATAKANA"] > scripts["CJK"] // 10:
        return "ja"  # which writes its nouns with Chinese letters
    languages = _SCRIPTS[script]
    return languages[0] if len(languages) == 1 else _likeliest(text, languages)


def _likeliest(text: str, languages: tuple[str, ...]) -> str | None:
    words = _words(text)
    points = {
        language: sum(word in _COMMON_WORDS[language] for word in words)
        + sum(text.count(letter) for letter in _OWN_LETTERS.get(language, ""))
        for language in languages
    }
    best = max(languages, key=points.__getitem__)
    return best if points[best] > _LEAST_SHARE * len(words) else None


def _words(text: str) -> list[str]:
    """Runs of letters with the marks that belong to them, as Indian scripts have them."""
    kept = "".join(each if each.isalpha() or unicodedata.category(each)[0] == "M" else " " for each in text)
    return kept.split()
