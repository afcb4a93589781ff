"""Lexicons of sentiment, read as text from packages of the extra `lexicons`; none of their code is imported or run."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np

from unroll.core.errors import UnrollError

INSTALL = "`pip install --no-deps -r requirements-lexicons.txt`"
Entries = Iterator[tuple[str, list[float]]]


def read_vader(lines: Iterable[str]) -> Entries:
    """Yield half the mean of a word's ratings from -4 to 4, half their standard deviation, and 1 for being listed."""
    for line in lines:
        fields = line.rstrip().split("\t")
        if len(fields) > 2:
            yield fields[0].lower(), [float(fields[1]) / 2, float(fields[2]) / 2, 1.0]


def read_senticnet(lines: Iterable[str]) -> Entries:
    """Yield introspection, temper, attitude, sensitivity, polarity, each from -1 to 1, and 0.5 for being listed."""
    entry = re.compile(r"senticnet\['(.+)'\] = \[(.+)\]")
    for found in filter(None, map(entry.match, lines)):
        values = [value.strip(" '") for value in found[2].split(",")]
        yield found[1], [float(values[place]) for place in (0, 1, 2, 3, 7)] + [0.5]


def read_textblob(lines: Iterable[str]) -> Entries:
    """Yield means over a word's senses: polarity from -1 to 1, subjectivity from 0 to 1, intensity less 1."""
    entry = re.compile(r'<word form="([^"]+)".*?polarity="(.+?)" subjectivity="(.+?)" intensity="(.+?)"')
    senses = defaultdict(list)
    for word, polarity, subjectivity, intensity in entry.findall("".join(lines)):
        senses[word].append([float(polarity), float(subjectivity), float(intensity) - 1])
    for word, values in senses.items():
        yield word, np.mean(values, axis=0).tolist()


# By setting name: the distribution, its file, and the function that reads the file.
LEXICONS: dict[str, tuple[str, str, Callable[[Iterable[str]], Entries]]] = {
    # 7,500 words rated by people (MIT; Hutto and Gilbert, 2014, "VADER: a parsimonious rule-based model for sentiment
    # analysis of social media text").
    "lexicon:vader": ("vaderSentiment", "vaderSentiment/vader_lexicon.txt", read_vader),
    # 200,000 concepts (Cambria et al., 2020, "SenticNet 6: ensemble application of symbolic and subsymbolic AI for
    # sentiment analysis").
    "lexicon:senticnet": ("senticnet", "senticnet/senticnet6.py", read_senticnet),
    # 2,900 senses of adjectives (MIT; De Smedt and Daelemans, 2012, "Pattern for Python").
    "lexicon:textblob": ("textblob", "textblob/en/en-sentiment.xml", read_textblob),
}


def read_lexicon(name: str) -> dict[str, list[float]]:
    """Return the numbers of each word of one of LEXICONS.

    Raises:
        UnrollError: the package is not installed, or its file is missing or damaged.
    """
    package, file, read = LEXICONS[name]
    try:
        with Path(str(metadata.distribution(package).locate_file(file))).open(encoding="utf-8") as lines:
            return {word: [float(f"{number:.5g}") for number in numbers] for word, numbers in read(lines)}
    except metadata.PackageNotFoundError:
        raise UnrollError(f"vectors {name!r}: package {package} is not installed; {INSTALL}") from None
    except (OSError, ValueError, IndexError) as error:
        raise UnrollError(f"vectors {name!r}: {package} is damaged ({error}); {INSTALL}") from None
