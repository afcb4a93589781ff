"""Write the invented film-review sample: a toy stand-in for the competition's files.

Sentences come from a small hand-written grammar as binary constituency trees.  Every
constituent gets a label 0..4 that is a function of its tree alone: words carry a polarity,
and each inner node names the rule that combines the scores of its two children.  Only the
standard library is used, and the only random source is ``Random.random`` with a fixed
seed, so that two runs write identical bytes.

Run ``python data/sample/make_sentences.py`` to write the files beside this script.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

T = TypeVar("T")

SEED = 20140228
N_TRAIN = 500
N_TEST = 150
MIN_TOKENS, MAX_TOKENS = 6, 25
TWIN_RATE = 0.3
"""How often a sentence is followed by its twin: the same words with two arms exchanged."""
UNSEEN_RATE = 0.035
"""How often a content word of a test sentence is drawn from the words kept out of training."""
STRONG_RATE = 0.32
"""How often an opinion is drawn from the strong words of its category."""
FOLDER = "sentiment-analysis-on-movie-reviews"

# ---------------------------------------------------------------------------------------
# Words.  Each category: polarity of its words, words of training and test, words of test only.

LEXICON: dict[str, tuple[float, str, str]] = {
    "adj+": (
        1.0,
        "funny charming moving clever warm witty tender engaging fresh honest smart touching sweet lively "
        "amusing gentle inventive stylish sharp graceful heartfelt thoughtful likable absorbing playful "
        "poignant subtle sincere lovely crisp imaginative energetic intelligent enjoyable vivid rousing "
        "spirited wry elegant humane",
        "delightful beguiling perceptive",
    ),
    "adj++": (
        2.0,
        "brilliant wonderful superb hilarious dazzling masterful magnificent unforgettable stunning "
        "extraordinary exquisite glorious",
        "sublime marvelous",
    ),
    "adj-": (
        -1.0,
        "dull slow predictable flat silly bland clumsy tedious shallow tired thin contrived stale muddled "
        "lazy hollow awkward routine uneven bloated pointless lifeless murky sluggish forced stiff formulaic "
        "preachy noisy shrill drab derivative confused unfunny pretentious implausible plodding overlong "
        "labored listless",
        "mawkish dreary charmless",
    ),
    "adj--": (
        -2.0,
        "awful dreadful terrible horrible unbearable atrocious insufferable abysmal wretched disastrous "
        "excruciating unwatchable",
        "ghastly appalling",
    ),
    "adj0": (
        0.0,
        "new old French animated modern political historical independent Japanese low-budget urban domestic "
        "early later black-and-white literary Italian silent recent",
        "Danish handheld",
    ),
    "trait+": (1.0, "funny charming clever warm witty tender honest gentle sharp graceful likable playful", ""),
    "trait++": (2.0, "brilliant wonderful extraordinary", ""),
    "trait-": (-1.0, "dull lazy silly clumsy awkward shallow tired pretentious confused shrill slow stiff", ""),
    "trait--": (-2.0, "awful terrible insufferable wretched", ""),
    "trait0": (0.0, "young old quiet retired French elderly local former Polish married widowed Irish", "bearded"),
    "region": (0.0, "small remote rural coastal quiet northern crowded deserted mountain provincial", "snowbound"),
    "length": (0.0, "long short serious loud simple strange familiar busy neat", "talky"),
    "film": (
        0.0,
        "film movie comedy drama thriller picture story romance western sequel remake documentary musical "
        "satire adaptation fable debut tale portrait mystery biopic",
        "travelogue melodrama whodunit",
    ),
    "part": (
        0.0,
        "plot script acting ending dialogue direction premise pacing screenplay camera soundtrack finale "
        "opening editing narration cast photography setting",
        "costuming prologue",
    ),
    "parts": (
        0.0,
        "jokes scenes characters performances songs twists effects actors chases flashbacks villains "
        "conversations speeches quarrels dances",
        "cameos subplots",
    ),
    "person": (
        0.0,
        "clerk thief teacher soldier widow nurse detective farmer boxer pianist priest lawyer sailor baker "
        "orphan spy king chef painter gambler student mother father drummer fisherman poet",
        "beekeeper locksmith tailor",
    ),
    "place": (
        0.0,
        "town village city valley school prison hotel circus desert harbor suburb monastery factory "
        "theater hospital seaport",
        "lighthouse vineyard",
    ),
    "name": (
        0.0,
        "Ostrander Bellamy Vukovar Marchetti Thorne Lindqvist Okafor Delacroix Hargrave Yamane Pruett Castellan",
        "Wexcombe Novotna Iriarte",
    ),
    "mass+": (
        1.0,
        "charm wit warmth energy imagination insight joy grace suspense humor tenderness intelligence",
        "verve",
    ),
    "mass-": (
        -1.0,
        "tedium sentimentality confusion nonsense boredom bombast laziness monotony padding noise clumsiness gloom",
        "drivel",
    ),
    "thing+": (1.0, "gem treat delight pleasure success surprise", "charmer"),
    "thing++": (2.0, "masterpiece marvel triumph", ""),
    "thing-": (-1.0, "mess bore chore dud misfire disappointment", "slog"),
    "thing--": (-2.0, "disaster travesty ordeal", ""),
    "verb+": (1.0, "delights entertains charms amuses engages impresses", "beguiles"),
    "verb++": (2.0, "captivates dazzles enchants", ""),
    "verb-": (-1.0, "bores annoys irritates disappoints tires frustrates", "exasperates"),
    "verb--": (-2.0, "insults repels infuriates", ""),
    "go+": (1.0, "sparkles shines soars succeeds works", ""),
    "go-": (-1.0, "drags stumbles meanders sags falters", "flounders"),
    "tell": (0.0, "follows watches observes traces depicts portrays describes chronicles", ""),
    "very": (0.0, "very truly utterly deeply really thoroughly remarkably genuinely extremely", "supremely"),
    "slightly": (0.0, "slightly somewhat mildly faintly fairly", ""),
    "never": (0.0, "not never hardly rarely scarcely", ""),
    "be": (0.0, "is is is feels seems remains proves", ""),
    "are": (0.0, "are are are feel seem remain", ""),
    "whom": (0.0, "us viewers audiences everyone children", ""),
}
SCORED_WORDS = {"lacks": -1.0, "fails": -1.0, "not": -1.0, "no": -1.0}
"""Words of the grammar itself with a polarity of their own; every other one is neutral."""

OPENERS = (
    "in the end",
    "for once",
    "at first glance",
    "by the final act",
    "on paper",
    "after an hour",
    "from the first shot",
    "on the whole",
    "as usual",
    "this time",
)
"""Neutral ways to begin a sentence."""

# ---------------------------------------------------------------------------------------
# Trees and how their labels compose.


@dataclass(frozen=True)
class Tree:
    """A word, or a rule that combines two constituents."""

    rule: str = ""
    left: Tree | None = None
    right: Tree | None = None
    word: str = ""

    def tokens(self) -> list[str]:
        """List the words from left to right."""
        if self.left is None or self.right is None:
            return [self.word]
        return self.left.tokens() + self.right.tokens()

    def text(self) -> str:
        """Join the words by blanks, as the competition's files do."""
        return " ".join(self.tokens())

    def constituents(self) -> Iterator[Tree]:
        """Yield every constituent in pre-order, this one first."""
        yield self
        if self.left is not None and self.right is not None:
            yield from self.left.constituents()
            yield from self.right.constituents()


def clip(score: float) -> float:
    """Keep a score between -2 and 2, free of rounding noise."""
    return max(-2.0, min(2.0, round(score, 4)))


def mix(head: float, other: float, weight: float) -> float:
    """Let the head lead; take the other part whole where the head is neutral."""
    return head + weight * other if head else other


RULES: dict[str, Callable[[float, float], float]] = {
    "left": lambda a, b: a,
    "right": lambda a, b: b,
    "neutral": lambda a, b: 0.0,
    "stronger": lambda a, b: 1.6 * b,
    "weaker": lambda a, b: 0.6 * b,
    "negate": lambda a, b: -0.72 * b,
    "too": lambda a, b: min(-1.0, 1.6 * b),
    "attempt": lambda a, b: -0.72 * max(b, 0.0),
    "join": lambda a, b: 0.6 * (a + b),
    "later": lambda a, b: mix(b, a, 0.1),
    "earlier": lambda a, b: mix(a, b, 0.1),
    "modify": lambda a, b: mix(b, a, 0.5),
    "attach": lambda a, b: mix(a, b, 0.5),
    "clause": lambda a, b: mix(b, a, 0.3),
}
"""Score of a node from the scores of its left and right child (see the README beside this)."""


def word_scores() -> dict[str, float]:
    """Return the polarity of every word that has one, and check that no word has two."""
    scores: dict[str, float] = {}
    for category, (polarity, words, unseen) in LEXICON.items():
        for word in f"{words} {unseen}".split():
            for form in (word, base_form(word)) if category.startswith("verb") else (word,):
                if scores.setdefault(form, polarity) != polarity:
                    raise ValueError(f"two polarities for {form!r}")
    return scores | SCORED_WORDS


def base_form(verb: str) -> str:
    """Return the infinitive of a verb of the lexicon (``bores`` gives ``bore``)."""
    return verb[:-2] if verb.endswith("sses") else verb.removesuffix("s")


def score(tree: Tree, words: dict[str, float]) -> float:
    """Compose the score of a constituent from those of its parts."""
    if tree.left is None or tree.right is None:
        return words.get(tree.word, words.get(tree.word.lower(), 0.0))
    return clip(RULES[tree.rule](score(tree.left, words), score(tree.right, words)))


def label(tree: Tree, words: dict[str, float]) -> int:
    """Round the score, halves away from nought, to a label 0..4."""
    value = score(tree, words)
    size = int(abs(value) + 0.5)
    return 2 + (size if value > 0 else -size)


def leaf(word: str) -> Tree:
    """Make a tree of one word."""
    return Tree(word=word)


def as_tree(part: Tree | str) -> Tree:
    """Let builders take plain strings: words that nest to the right, all of them neutral glue."""
    if isinstance(part, Tree):
        return part
    head, _, rest = part.partition(" ")
    return Tree("right", leaf(head), as_tree(rest)) if rest else leaf(head)


def node(rule: str, left: Tree | str, right: Tree | str) -> Tree:
    """Combine two constituents by a named rule."""
    if rule not in RULES:
        raise KeyError(rule)
    return Tree(rule, as_tree(left), as_tree(right))


def article(noun_phrase: Tree) -> Tree:
    """Put ``a`` or ``an`` before a noun phrase."""
    word = noun_phrase.tokens()[0].lower()
    return node("right", "an" if word[0] in "aeiou" or word in {"hour", "honest"} else "a", noun_phrase)


def comma(tree: Tree) -> Tree:
    """Close a constituent with a comma."""
    return node("left", tree, ",")


def full_stop(tree: Tree) -> Tree:
    """Put the full stop into the right branch, as the real trees do."""
    if tree.left is None or tree.right is None:
        return node("left", tree, ".")
    return Tree(tree.rule, tree.left, node("left", tree.right, "."))


def capitalise(tree: Tree) -> Tree:
    """Write the first letter of the first word large."""
    if tree.left is None:
        return leaf(tree.word[:1].upper() + tree.word[1:])
    return Tree(tree.rule, capitalise(tree.left), tree.right)


# ---------------------------------------------------------------------------------------
# The grammar.  Builders take the wanted sign, 1 or -1, and return a tree of that sign.


class Grammar:
    """Draws sentences; with ``swap`` the two arms of every contrast change places."""

    def __init__(self, random: Random, *, unseen: float) -> None:
        """Remember the random source and the share of words kept out of training."""
        self.random = random
        self.unseen = unseen
        self.swap = False

    # -- drawing

    def chance(self, probability: float) -> bool:
        """Answer yes with the given probability."""
        return self.random.random() < probability

    def pick(self, options: Sequence[T]) -> T:
        """Choose one of the options."""
        return options[int(self.random.random() * len(options))]

    def weighted(self, options: Sequence[tuple[int, Callable[[int], Tree]]], sign: int) -> Tree:
        """Call one of the builders, chosen by its weight."""
        at = self.random.random() * sum(weight for weight, _ in options)
        for weight, build in options:
            at -= weight
            if at < 0:
                return build(sign)
        return options[-1][1](sign)

    def draw(self, category: str) -> str:
        """Draw a word, the first ones of a category somewhat more often."""
        _, words, unseen = LEXICON[category]
        rare = self.chance(self.unseen)
        options = unseen.split() if rare and unseen else words.split()
        return options[int(len(options) * self.random.random() ** 1.25)]

    def polar(self, category: str, sign: int, strong: float = STRONG_RATE) -> Tree:
        """Draw a word of the sign, now and then a strong one."""
        mark = "+" if sign > 0 else "-"
        double = category + 2 * mark
        return leaf(self.draw(double if self.chance(strong) and double in LEXICON else category + mark))

    def infinitive(self, sign: int) -> Tree:
        """Draw a verb of the sign without its ending."""
        return leaf(base_form(self.polar("verb", sign).word))

    def arms(self, build: Callable[[int], Tree], sign: int) -> tuple[Tree, Tree]:
        """Build a part of the sign and one against it, exchanged in a twin."""
        with_sign, against = build(sign), build(-sign)
        return (against, with_sign) if self.swap else (with_sign, against)

    # -- adjectives

    def adjective(self, sign: int) -> Tree:
        """Draw an adjective."""
        return self.polar("adj", sign)

    def adjective_phrase(self, sign: int) -> Tree:
        """Build an adjective with a modifier, or without one."""
        options: list[tuple[int, Callable[[int], Tree]]] = [
            (24, self.adjective),
            (14, self.intensified),
            (10, self.diminished),
            (20, self.negated),
            (30, self.joined),
        ]
        if sign < 0:
            options.append((6, self.excessive))
        return self.weighted(options, sign)

    def intensified(self, sign: int) -> Tree:
        """Say ``very warm``."""
        return node("stronger", self.draw("very"), self.polar("adj", sign, 0.08))

    def diminished(self, sign: int) -> Tree:
        """Say ``slightly dull`` or ``a bit dreadful``."""
        amount = self.pick(["a bit", "a little"]) if self.chance(0.4) and sign < 0 else self.draw("slightly")
        return node("weaker", amount, self.polar("adj", sign, 0.4))

    def negated(self, sign: int) -> Tree:
        """Say ``not dull``, ``never very warm``, ``far from witty``."""
        if self.chance(0.25):
            return node("negate", self.pick(["not", "never"]), self.intensified(-sign))
        negator = self.pick(["far from", "anything but"]) if self.chance(0.2) else self.draw("never")
        return node("negate", negator, self.adjective(-sign))

    def excessive(self, sign: int) -> Tree:
        """Say ``too long`` or ``too clever``: a fault, whatever the adjective."""
        word = leaf(self.draw("length")) if self.chance(0.5) else self.adjective(-sign)
        return node("too", "too", word)

    def joined(self, sign: int) -> Tree:
        """Say ``warm and funny``, ``fresh , warm and funny`` or ``neither dull nor slow``."""
        if self.chance(0.3):
            pair = node("join", self.adjective(-sign), node("right", "nor", self.adjective(-sign)))
            return node("negate", "neither", pair)
        first = self.adjective(sign)
        if self.chance(0.25):
            first = node("join", comma(first), self.adjective(sign))
        return node("join", first, node("right", "and", self.adjective(sign)))

    def contrasted(self, sign: int, *, before_noun: bool = False) -> Tree:
        """Set two adjectives of opposite signs against each other; one place always wins."""
        wins, loses = self.arms(self.adjective, sign)
        forms: list[Callable[[], Tree]] = [
            lambda: node("later", loses, node("right", self.pick(["but", "yet"]), wins)),
            lambda: node("earlier", wins, node("right", self.pick(["if", "though"]), loses)),
            lambda: node("later", node("negate", "not", loses), node("right", "but", wins)),
            lambda: node("earlier", comma(wins), node("negate", self.pick(["not", "never"]), loses)),
            lambda: node("left", node("right", "more", wins), node("neutral", "than", loses)),
            lambda: node("left", node("negate", "less", loses), node("neutral", "than", wins)),
            lambda: node("earlier", wins, node("negate", "rather than", loses)),
            lambda: node("earlier", wins, node("negate", "instead of", loses)),
            lambda: node("later", node("negate", "not so much", loses), node("right", "as", wins)),
        ]
        return self.pick(forms[:2] if before_noun else forms)()

    # -- noun phrases

    def subject(self) -> Tree:
        """Name the film or a part of it, without an opinion."""
        if self.chance(0.3):
            return node("right", "the", self.draw("part"))
        return self.film()

    def film(self) -> Tree:
        """Name the film as a whole, without an opinion."""
        noun = leaf(self.draw("film"))
        if self.chance(0.2):
            return node("right", node("left", self.draw("name"), "'s"), noun)
        if self.chance(0.25):
            noun = node("right", self.draw("adj0"), noun)
        return node("right", self.pick(["the", "the", "this"]), noun)

    def coloured_subject(self, sign: int) -> Tree:
        """Name the film with an adjective of the sign."""
        noun = node("modify", self.adjective(sign), self.draw("film"))
        return node("right", self.pick(["this", "the"]), noun)

    def person(self, sign: int) -> Tree:
        """Name somebody in the plot, with an adjective that says nothing about the film."""
        adjective = self.polar("trait", sign) if self.chance(0.6) else leaf(self.draw("trait0"))
        return article(node("modify", adjective, self.draw("person")))

    def topic(self, sign: int) -> Tree:
        """Say ``about a dull clerk``: what the film is about is neutral."""
        return node("neutral", "about", self.person(sign))

    def place(self) -> Tree:
        """Say ``in a small town``."""
        noun = leaf(self.draw("place"))
        return node("right", "in", article(node("right", self.draw("region"), noun) if self.chance(0.4) else noun))

    def verdict(self, sign: int) -> Tree:
        """Say ``a gem``, ``a very dull film``, ``a slow but moving drama``."""
        if self.chance(0.3):
            noun = self.polar("thing", sign, 0.3)
            return article(node("modify", self.adjective(sign), noun) if self.chance(0.4) else noun)
        adjective = self.contrasted(sign, before_noun=True) if self.chance(0.35) else self.adjective_phrase(sign)
        if adjective.rule == "negate":
            adjective = self.intensified(sign)
        return article(node("modify", adjective, self.draw("film")))

    def plain_verdict(self, sign: int) -> Tree:
        """Say ``a gem`` or ``a dull film``."""
        if self.chance(0.3):
            return article(self.polar("thing", sign))
        return article(node("modify", self.adjective(sign), self.draw("film")))

    def quality(self, sign: int) -> Tree:
        """Say ``charm`` or ``some charm``."""
        noun = self.polar("mass", sign)
        return node("right", self.pick(["real", "some", "its"]), noun) if self.chance(0.2) else noun

    # -- predicates

    def predicate(self, sign: int) -> Tree:
        """Build what the sentence says of its subject."""
        return self.weighted(
            [
                (26, self.is_adjective),
                (16, self.is_contrasted),
                (10, self.is_verdict),
                (16, self.acts),
                (14, self.has),
                (10, self.tries),
                (14, self.turns),
            ],
            sign,
        )

    def is_adjective(self, sign: int) -> Tree:
        """Say ``is very warm`` or ``is n't dull``."""
        if self.chance(0.25):
            return node("negate", "is n't", self.adjective(-sign))
        adjective = self.adjective_phrase(sign)
        return node("right", "is" if adjective.rule == "negate" else self.draw("be"), adjective)

    def is_contrasted(self, sign: int) -> Tree:
        """Say ``is more dull than moving``."""
        return node("right", self.draw("be"), self.contrasted(sign))

    def is_verdict(self, sign: int) -> Tree:
        """Say ``is a gem`` or ``is never a bore``."""
        if self.chance(0.35):
            return node("right", "is", node("negate", self.draw("never"), self.plain_verdict(-sign)))
        return node("right", "is", self.verdict(sign))

    def acts(self, sign: int) -> Tree:
        """Say ``delights``, ``never bores us``, ``does n't drag``."""
        if self.chance(0.3):
            return node("negate", "does n't", self.with_object(self.infinitive(-sign)))
        if self.chance(0.3):
            return node("negate", self.pick(["never", "hardly", "rarely"]), self.with_object(self.polar("verb", -sign)))
        return self.polar("go", sign) if self.chance(0.3) else self.with_object(self.polar("verb", sign))

    def with_object(self, verb: Tree) -> Tree:
        """Add whom the film pleases or annoys, at times."""
        return node("left", verb, self.draw("whom")) if self.chance(0.5) else verb

    def has(self, sign: int) -> Tree:
        """Say ``has charm``, ``lacks wit``, ``offers more tedium than insight``."""
        verb = self.pick(["has", "offers", "delivers"])
        if self.chance(0.4):
            wins, loses = self.arms(lambda s: self.polar("mass", s), sign)
            forms: list[Callable[[], Tree]] = [
                lambda: node("left", node("right", "more", wins), node("neutral", "than", loses)),
                lambda: node("left", node("negate", "less", loses), node("neutral", "than", wins)),
                lambda: node("earlier", wins, node("negate", "without", loses)),
                lambda: node("earlier", wins, node("negate", "instead of", loses)),
                lambda: node("later", node("negate", "no", loses), node("right", "but", wins)),
            ]
            return node("right", verb, self.pick(forms)())
        if self.chance(0.4):
            return node("negate", self.pick(["lacks", "avoids"]), self.polar("mass", -sign))
        if self.chance(0.3):
            none = self.pick(["no", "little", "hardly any"])
            return node("right", verb, node("negate", none, self.polar("mass", -sign)))
        return node("right", verb, self.quality(sign))

    def tries(self, sign: int) -> Tree:
        """Say ``tries to be funny``, ``fails to delight``, ``never fails to delight``."""
        if sign < 0 and self.chance(0.5):
            attempt = self.pick(["tries to be", "wants to be", "could have been", "should have been"])
            return node("attempt", attempt, self.adjective(1))
        if sign > 0 and self.chance(0.5):
            return node("right", "manages to", self.infinitive_phrase(1))
        fails = node("negate", node("left", "fails", "to"), self.infinitive_phrase(1))
        return node("negate", "never", fails) if sign > 0 else fails

    def infinitive_phrase(self, sign: int) -> Tree:
        """Say ``delight us`` or ``be funny``."""
        if self.chance(0.5):
            return node("right", "be", self.adjective(sign))
        return self.with_object(self.infinitive(sign))

    def turns(self, sign: int) -> Tree:
        """Say ``starts dull but ends moving`` or ``bores more than it delights``."""
        if self.chance(0.5):
            wins, loses = self.arms(self.adjective, sign)
            start = node("right", self.pick(["starts", "begins"]), loses)
            finish = node("right", self.pick(["ends", "turns", "grows"]), wins)
            return node("later", start, node("right", self.pick(["but", "and then"]), finish))
        wins, loses = self.arms(lambda s: self.polar("verb", s), sign)
        if self.chance(0.5):
            return node("left", wins, node("neutral", "more than", node("right", "it", loses)))
        return node("later", loses, node("right", self.pick(["but", "and yet"]), wins))

    # -- clauses and sentences

    def clause(self, sign: int) -> Tree:
        """Build a subject with its predicate."""
        if self.chance(0.2):
            return self.none_clause(sign) if self.chance(0.25) else self.plural_clause(sign)
        if self.chance(0.12):
            return node("clause", "it", node("right", "'s", self.adjective_phrase(sign)))
        return node("clause", self.subject(), self.predicate(sign))

    def plural_clause(self, sign: int) -> Tree:
        """Say ``the jokes are n't funny`` or ``its scenes do n't bore us``."""
        subject = node("right", self.pick(["the", "its"]), self.draw("parts"))
        if self.chance(0.25):
            return node("clause", subject, node("negate", "are n't", self.adjective(-sign)))
        if self.chance(0.25):
            return node("clause", subject, node("negate", "do n't", self.with_object(self.infinitive(-sign))))
        adjective = self.contrasted(sign) if self.chance(0.3) else self.adjective_phrase(sign)
        verb = "are" if adjective.rule == "negate" else self.draw("are")
        return node("clause", subject, node("right", verb, adjective))

    def none_clause(self, sign: int) -> Tree:
        """Say ``none of the jokes are funny``."""
        subject = node("right", "none of the", self.draw("parts"))
        return node("negate", subject, node("right", "are", self.adjective(-sign)))

    def plain(self, sign: int) -> Tree:
        """Build a sentence of one clause, at times with an adjective in the subject."""
        if self.chance(0.35):
            return node("clause", self.coloured_subject(self.pick([1, -1])), self.predicate(sign))
        clause = self.clause(sign)
        return node("right", self.opener(), clause) if self.chance(0.2) else clause

    def opener(self) -> Tree:
        """Say ``In the end ,`` and the like."""
        return comma(as_tree(self.pick(OPENERS)))

    def short_clause(self, sign: int) -> Tree:
        """Build a clause short enough to stand beside another one."""
        subject = node("right", "the", self.draw("part"))
        if self.chance(0.2):
            return node("clause", subject, node("negate", "is n't", self.adjective(-sign)))
        if self.chance(0.3):
            return node("clause", subject, self.polar("verb", sign))
        adjective = self.adjective_phrase(sign) if self.chance(0.5) else self.adjective(sign)
        return node("clause", subject, node("right", "is", adjective))

    def half(self, sign: int) -> Tree:
        """Build one half of a sentence of two clauses."""
        return self.clause(sign) if self.chance(0.15) else self.short_clause(sign)

    def but_sentence(self, sign: int) -> Tree:
        """Say ``X , but Y``: Y wins."""
        wins, loses = self.arms(self.half, sign)
        first = node("right", self.opener(), loses) if self.chance(0.15) else loses
        return node("later", comma(first), node("right", self.pick(["but", "but", "yet"]), wins))

    def although_sentence(self, sign: int) -> Tree:
        """Say ``Although X , Y`` or ``Y , although X``: the main clause Y wins."""
        wins, loses = self.arms(self.half, sign)
        aside = node("right", self.pick(["although", "although", "even if", "though"]), loses)
        return node("later", comma(aside), wins) if self.chance(0.5) else node("earlier", comma(wins), aside)

    def despite_sentence(self, sign: int) -> Tree:
        """Say ``Despite its charm , the film drags``: the clause wins."""
        aside = node("right", self.pick(["despite its", "for all its"]), self.polar("mass", -sign))
        clause = self.clause(sign)
        return node("later", comma(aside), clause) if self.chance(0.6) else node("earlier", comma(clause), aside)

    def and_sentence(self, sign: int) -> Tree:
        """Say ``X is not dull and Y is moving``; without the negation the two clauses cancel."""
        wins, loses = self.arms(self.adjective, sign)
        denied = loses if self.chance(0.45) else node("negate", "not", loses)
        first = node("clause", node("right", "the", self.draw("part")), node("right", "is", denied))
        second = node("clause", node("right", "the", self.draw("part")), node("right", "is", wins))
        pair = (first, second) if self.chance(0.5) else (second, first)
        return node("join", pair[0], node("right", "and", pair[1]))

    def fragment(self, sign: int) -> Tree:
        """Say ``A brilliant film about a dull clerk``; the topic does not count."""
        if self.chance(0.45):
            wins, loses = self.arms(lambda s: self.polar("trait", s), sign)
            film = article(node("modify", wins, self.draw("film")))
            about = node("neutral", "about", article(node("modify", loses, self.draw("person"))))
            return node("attach", film, node("left", about, self.place()) if self.chance(0.4) else about)
        if self.chance(0.35):
            loses, wins = self.arms(lambda s: article(node("modify", self.adjective(s), self.draw("film"))), -sign)
            return node("later", node("negate", "not", loses), node("right", "but", wins))
        preposition, inner = self.pick([("with", sign), ("without", -sign)])
        rule = "right" if preposition == "with" else "negate"
        return node("attach", self.verdict(sign), node(rule, preposition, self.polar("mass", inner)))

    def relative(self, sign: int) -> Tree:
        """Say ``Here is a film that never bores``."""
        film = node("right", self.pick(["this is", "here is"]), article(leaf(self.draw("film"))))
        return node("attach", film, node("right", "that", self.predicate(sign)))

    def there_is(self, sign: int) -> Tree:
        """Say ``There is more tedium than charm in this thriller``."""
        wins, loses = self.arms(lambda s: self.polar("mass", s), sign)
        more = node("left", node("right", "more", wins), node("neutral", "than", loses))
        less = node("left", node("negate", "less", loses), node("neutral", "than", wins))
        where = node("right", "in", self.film())
        return node("right", "there is", node("left", more if self.chance(0.5) else less, where))

    def missed_chance(self, sign: int) -> Tree:
        """Say ``What could have been a moving drama is a dull sequel``: what it is wins."""
        wins, loses = self.arms(lambda s: article(node("modify", self.adjective(s), self.draw("film"))), sign)
        aside = node("negate", self.pick(["what could have been", "what should have been"]), loses)
        return node("later", aside, node("right", "is", wins))

    def hearsay(self, sign: int) -> Tree:
        """Say ``Some critics call it dull , but it is moving``: the second half wins."""
        wins, loses = self.arms(self.adjective, sign)
        who = self.pick(["some critics", "my friends", "many viewers", "most reviewers"])
        call = node("right", who, node("right", self.pick(["call it", "find it", "may think it"]), loses))
        is_what = node("right", self.pick(["it is", "the result is", "it feels"]), wins)
        return node("later", comma(call), node("right", self.pick(["but", "yet"]), is_what))

    def synopsis(self, sign: int) -> Tree:
        """Tell a bit of the plot, without an opinion."""
        told = node("neutral", self.draw("tell"), self.person(sign))
        if self.chance(0.7):
            told = node("left", told, self.place())
        return node("clause", self.film(), told)

    def credits(self, sign: int) -> Tree:
        """Say who made the film, about what, without an opinion."""
        maker = node("right", self.pick(["directed by", "written by", "based on a book by"]), self.draw("name"))
        film = node("clause", self.film(), node("right", "is", maker))
        if self.chance(0.6):
            return node("left", film, node("right", "and", node("right", "set", self.place())))
        return node("left", film, node("right", "and", node("right", "is", self.topic(sign))))

    def sentence(self) -> Tree:
        """Draw one sentence of any kind, capital letter and full stop included."""
        tree = self.weighted(
            [
                (30, self.plain),
                (16, self.but_sentence),
                (12, self.although_sentence),
                (8, self.despite_sentence),
                (12, self.and_sentence),
                (18, self.fragment),
                (5, self.relative),
                (5, self.there_is),
                (4, self.missed_chance),
                (6, self.hearsay),
                (11, self.synopsis),
                (3, self.credits),
            ],
            self.pick([1, -1]),
        )
        return capitalise(full_stop(tree))

    def with_twin(self) -> list[Tree]:
        """Draw a sentence and its twin: the same draws, with the arms exchanged."""
        state = self.random.getstate()
        first = self.sentence()
        self.random.setstate(state)
        self.swap = True
        second = self.sentence()
        self.swap = False
        return [first, second]


# ---------------------------------------------------------------------------------------
# From sentences to files.


class Sample:
    """Collects sentences: no sentence twice, and no phrase with two labels."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.words = word_scores()
        self.labels: dict[str, int] = {}
        self.sentences: set[str] = set()

    def accepts(self, tree: Tree) -> bool:
        """Take a sentence in if its length, its words and its labels allow it, and tell whether they did."""
        found: dict[str, int] = {}
        for part in tree.constituents():
            value = label(part, self.words)
            if found.setdefault(part.text(), value) != value:
                return False
        text = tree.text()
        tokens = tree.tokens()
        long_words = [token.lower() for token in tokens if len(token) > 4]
        fits = MIN_TOKENS <= len(tokens) <= MAX_TOKENS and len(set(long_words)) == len(long_words)
        if not fits or text.lower() in self.sentences or any(self.labels.get(t, v) != v for t, v in found.items()):
            return False
        self.sentences.add(text.lower())
        self.labels.update(found)
        return True

    def collect(self, grammar: Grammar, count: int) -> list[Tree]:
        """Draw sentences until ``count`` of them are accepted, and shuffle them."""
        trees: list[Tree] = []
        while len(trees) < count:
            drawn = grammar.with_twin() if grammar.chance(TWIN_RATE) else [grammar.sentence()]
            trees.extend(tree for tree in drawn if len(trees) < count and self.accepts(tree))
        keys = [(grammar.random.random(), at) for at in range(count)]
        return [trees[at] for _, at in sorted(keys)]


def distinct_phrases(tree: Tree) -> list[str]:
    """List the constituents of a sentence in pre-order, each text once."""
    return list(dict.fromkeys(part.text() for part in tree.constituents()))


def rows(trees: Sequence[Tree], first_phrase: int, first_sentence: int) -> list[tuple[int, int, str]]:
    """Give the phrases of some sentences their numbers."""
    pairs = [(first_sentence + at, text) for at, tree in enumerate(trees) for text in distinct_phrases(tree)]
    return [(first_phrase + at, sentence, text) for at, (sentence, text) in enumerate(pairs)]


def check(trees: Sequence[Tree], table: Sequence[tuple[int, int, str]], labels: dict[str, int]) -> None:
    """Raise an error where the files would break a promise of the README."""
    words = word_scores()
    for tree in trees:
        for part in tree.constituents():
            if label(part, words) != labels[part.text()]:
                raise AssertionError(f"two labels for {part.text()!r}")
    roots: dict[int, str] = {}
    for _, sentence, text in table:
        if not text.strip() or f" {text} " not in f" {roots.setdefault(sentence, text)} ":
            raise AssertionError(f"{text!r} is not a phrase of sentence {sentence}")
    if len({phrase for phrase, _, _ in table}) != len(table):
        raise AssertionError("a PhraseId stands twice")


def write(path: Path, lines: Sequence[str]) -> None:
    """Write lines as UTF-8 with plain line feeds."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def make(folder: Path) -> None:
    """Generate the sample and write its three files."""
    random = Random(SEED)
    sample = Sample()
    train_trees = sample.collect(Grammar(random, unseen=0.0), N_TRAIN)
    test_trees = sample.collect(Grammar(random, unseen=UNSEEN_RATE), N_TEST)
    train = rows(train_trees, 1, 1)
    test = rows(test_trees, len(train) + 1, N_TRAIN + 1)
    check([*train_trees, *test_trees], [*train, *test], sample.labels)
    folder.mkdir(parents=True, exist_ok=True)
    head = "PhraseId\tSentenceId\tPhrase"
    write(folder / "train.tsv", [f"{head}\tSentiment", *(f"{p}\t{s}\t{t}\t{sample.labels[t]}" for p, s, t in train)])
    write(folder / "test.tsv", [head, *(f"{p}\t{s}\t{t}" for p, s, t in test)])
    write(folder / "sampleSubmission.csv", ["PhraseId,Sentiment", *(f"{p},2" for p, _, _ in test)])


def main() -> None:
    """Read the command line and write the files."""
    parser = argparse.ArgumentParser(description="Write the invented film-review sample.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write into")
    make(parser.parse_args().out / FOLDER)


if __name__ == "__main__":
    main()
