# SPDX-License-Identifier: Apache-2.0
"""The figures in the documents are those of the shipped weights.

Named weights are the shipped ones, and tables in both a model card and a document are equal. So
new weights need new figures.
"""

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CARDS = sorted(ROOT.glob('weights/*.md'))
DOCUMENTS = [ROOT / 'README.md', *sorted(ROOT.glob('docs/**/*.md'))]

_WEIGHTS = re.compile(r'`(\w+)@([0-9a-f]{12})`(, the weights before)?')
"""A shipped name and the start of its hash; figures of former weights may be kept."""


def replaced_weights(text: str) -> list[str]:
    """Return weights that are named in a document and are not those that are shipped."""
    found = []
    for name, digest, before in _WEIGHTS.findall(text):
        content = (ROOT / 'weights' / f'{name}.safetensors').read_bytes()
        if not before and hashlib.sha256(content).hexdigest()[:12] != digest:
            found.append(f'{name}@{digest}')
    return found


def tables(text: str) -> list[str]:
    return re.findall(r'(?:^\|.*\n)+', text, re.MULTILINE)


def other_figures(card: str, documents: list[str]) -> list[str]:
    """Return tables of a card that a document has too, with other figures."""
    elsewhere = [table for text in documents for table in tables(text)]
    heads = {table.splitlines()[0] for table in elsewhere}
    return [
        table
        for table in tables(card)
        if table.splitlines()[0] in heads and table not in elsewhere
    ]


def test_figures_are_those_of_the_shipped_weights() -> None:
    texts = {path.name: path.read_text(encoding='utf-8') for path in [*DOCUMENTS, *CARDS]}
    assert sum(len(_WEIGHTS.findall(text)) for text in texts.values()) >= 7
    assert {name: old for name, text in texts.items() if (old := replaced_weights(text))} == {}


def test_model_cards_and_documents_show_the_same_figures() -> None:
    documents = [path.read_text(encoding='utf-8') for path in DOCUMENTS]
    for card in CARDS:
        assert other_figures(card.read_text(encoding='utf-8'), documents) == [], card.name


def test_figures_of_other_weights_are_found() -> None:
    assert replaced_weights('`body_1s@0123456789ab`') == ['body_1s@0123456789ab']
    assert replaced_weights('`body_1s@0123456789ab`, the weights before') == []
    document = '| a |\n|---|\n| 1 |\n'
    assert other_figures(document, [document]) == []
    assert other_figures(document.replace('1', '2'), [document])
    assert other_figures(document.replace('a', 'b'), [document]) == []
