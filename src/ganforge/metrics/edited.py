"""Of games that edit pictures: whether what was asked for is seen, and whether a picture that needs no change gets none."""

from __future__ import annotations

import torch
from sklearn.metrics import balanced_accuracy_score

from ganforge.batches import Attributed
from ganforge.capabilities import Edits
from ganforge.metrics.fidelity import l1, levels
from ganforge.metrics.findings import NotMeasuredError, Score, Section, Space
from ganforge.metrics.material import Material
from ganforge.metrics.readers import reader_of
from ganforge.metrics.restored import LEVELS


def edits(game: Edits, material: Material) -> Section:
    """For each dial that is an attribute: the share of edits to the opposite value that an independent classifier of attributes confirms.

    Beside it the share of the same pictures, not edited, in which it sees that value too, and its balanced accuracy on held-out real
    pictures. "change when asked for what is" is the mean L1 between a picture and its edit to the values that it has.
    """
    names = material.spec.attributes
    dials = [name for name in game.dials if name in names]
    if not dials:
        known = ", ".join(names) or "none"
        raise NotMeasuredError(f"data {material.trained.name!r} have the attributes {known}; the dials are {', '.join(game.dials)}")
    learn, test = material.parts(Attributed)
    reader, part = reader_of("attributes", learn, len(names)), material.shown(Attributed)
    truth = torch.cat([batch.tensors()["attribute"] for batch in test.batches(Attributed)])
    said = torch.cat([reader.says(batch.x) for batch in test.batches(Attributed)]) > 0
    scores = []
    for dial in dials:
        column, values = names.index(dial), game.dials[dial]
        confirmed, before, change = [], [], []
        for batch in part.batches(Attributed, material.device):
            for has in (0, 1):
                images = batch.x[batch.tensors()["attribute"][:, column] == has]
                if len(images) == 0:
                    continue
                opposite = game.edit(images, {dial: values[1 - has]})
                confirmed.append((reader.says(opposite)[:, column] > 0) == bool(1 - has))
                before.append((reader.says(images)[:, column] > 0) == bool(1 - has))
                change.append(l1(levels(game.edit(images, {dial: values[has]})), levels(images)))
        both_there = bool(truth[:, column].any()) and not bool(truth[:, column].all())
        beside = {"not edited": torch.cat(before).double().mean().item()}
        if both_there:
            beside["classifier on real, balanced"] = float(balanced_accuracy_score(truth[:, column].numpy(), said[:, column].numpy()))
        share = torch.cat(confirmed).double().mean().item()
        scores.append(Score(f"{dial}: edits confirmed", share, beside=beside, better="higher", space=reader.identity))
        scores.append(Score(f"{dial}: change when asked for what is", torch.cat(change).mean().item(), LEVELS, better="lower"))
    return Section("edits", scores, spaces=[Space.of(reader)])
