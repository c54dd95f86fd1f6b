"""Domain adaptation: labelled pictures of one domain, and pictures of another whose labels, if it has any, are never served."""

from __future__ import annotations

from ganforge.batches import ImageSpec, TwoDomains
from ganforge.data.layouts.albums import read_alike
from ganforge.data.layouts.images import Labels, find_labels
from ganforge.data.layouts.request import Layout, Request
from ganforge.data.layouts.serving import sent
from ganforge.data.layouts.unpaired import Apart


def _source_labels(request: Request) -> Labels | str:
    place = request.in_direction(request.places)[0]
    return find_labels(place, place.album(request.split), asked=TwoDomains in request.kinds)


def _refusal(request: Request) -> str | None:
    found = request.once(_source_labels)
    return f"{request.in_direction(request.places)[0].text} has no classes: {found}" if isinstance(found, str) else None


def _open(request: Request) -> Apart:
    labels = request.once(_source_labels)
    assert isinstance(labels, Labels)
    source, target = request.directed
    labelled = labels.known.nonzero()[0]
    sides = read_alike([source.subset(labelled), target], request.reading)
    labels = labels.subset(labelled[sides[0].served])
    height, width, channels = sides[0].shape
    facts = [*source.stamps(labelled[sides[0].served]), *target.stamps(sides[1].served), *labels.facts()]
    notes = [*labels.notes, f"{len(sides[0])} labelled pictures of {source.origin}, {len(sides[1])} without labels of {target.origin}"]
    spec, known = ImageSpec(height, width, channels, labels.classes), labels.labels
    return Apart(request, sides, spec, TwoDomains, lambda i, a, b: TwoDomains(a, sent(known[i], a.device), b), notes, facts)


DOMAINS = Layout(TwoDomains, "two sources LABELLED,OTHER", _refusal, _open, places=2)
