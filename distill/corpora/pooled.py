"""Several corpora as one: for one student of several languages. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from distill.corpora.auxiliary import names_for, of_corpus
from distill.corpus import Corpus, CorpusFacts, PooledPart
from edge_runtime.errors import EdgeemoError, WrongUseError

POOLED = "pooled"
"""Name of the corpus that several are together."""


def pool_corpora(corpora: Sequence[Corpus]) -> Corpus:
    """Return several corpora as one, whose utterances have a language each; a single one stays as it is.

    Files and speakers get the name of their corpus in front. Labels that mean the same get the name that the first
    corpus has for it; utterances of emotions that not all corpora have are left out, since a class of one language
    only would be recognised by the language. A corpus without a language counts as one more language.

    Raises:
        EdgeemoError: they have fewer than two emotions in common.
        WrongUseError: two have the same name.
    """
    if len(corpora) == 1:
        return corpora[0]
    names = [each.facts.name for each in corpora]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise WrongUseError(f"two corpora are called '{twice}'; name them: --corpus ONE=PATH --corpus OTHER=PATH")
    first = corpora[0]
    known = [{label: label for label in first.labels}, *(names_for(first, other) for other in corpora[1:])]
    shared = set.intersection(*(set(each.values()) for each in known))
    if len(shared) < 2:
        raise EdgeemoError(
            f"the corpora {', '.join(names)} have fewer than two emotions in common; leave one of them out"
        )
    chosen = [{own: name for own, name in each.items() if name in shared} for each in known]
    parts = [each.labelled(labels) for each, labels in zip(corpora, chosen, strict=True)]
    return Corpus(
        root=Path(" + ".join(names)),
        facts=_facts(corpora),
        utterances=tuple(
            dataclasses.replace(
                of_corpus(item, part.facts.name), language=item.language or part.facts.language or part.facts.name
            )
            for part in parts
            for item in part.utterances
        ),
        skipped=tuple(why for each in corpora for why in each.skipped),
        reader=POOLED,
        left_out=tuple(f"{each.facts.name}/{name}" for each in corpora for name in each.left_out),
        parts=tuple(PooledPart(each, labels) for each, labels in zip(corpora, chosen, strict=True)),
    )


def refuse_common_files(
    tested: Sequence[Corpus], auxiliary: Sequence[Corpus] = (), unlabelled: Sequence[Corpus] = ()
) -> None:
    """Refuse speech that is given twice: the same speaker would be tested and trained on, under two names.

    Args:
        tested: corpora that are cut into folds.
        auxiliary: corpora that are trained on only.
        unlabelled: speech that is trained on only, without labels.

    Raises:
        WrongUseError: two of them name the same file, or are copies of each other; or unlabelled speech has the name of
            another corpus.
    """
    files: set[Path] = set()
    contents: set[str] = set()
    for each in (*tested, *auxiliary, *unlabelled):
        own, content = {item.path.resolve() for item in each.utterances}, each.fingerprint()
        if content in contents or not files.isdisjoint(own):
            raise WrongUseError(
                f"{each.source or each.root}: is speech that is given already, so that tested speakers would be "
                "trained on; name it once, by --corpus, --auxiliary-corpus or --unlabelled"
            )
        files |= own
        contents.add(content)
    names = [each.facts.name for each in (*tested, *auxiliary, *unlabelled)]
    twice = next((each.facts.name for each in unlabelled if names.count(each.facts.name) > 1), None)
    if twice is not None:
        raise WrongUseError(
            f"two corpora are called '{twice}', one of them unlabelled; name it: --unlabelled OTHER=PATH"
        )


def _facts(corpora: Sequence[Corpus]) -> CorpusFacts:
    facts = [each.facts for each in corpora]
    return CorpusFacts(
        name=POOLED,
        # Figures on a mixture are no better than those on its most artificial part.
        kind="rendered" if any(each.kind == "rendered" for each in facts) else "recorded",
        licence="; ".join(f"{each.name}: {each.licence}" for each in facts),
        note=" ".join(f"{each.name}: {each.note}" for each in facts if each.note),
        citation=" ".join(each.citation for each in facts if each.citation),
    )
