"""Margin, spread, cross entropy and reconstruction losses, and entropy, number by number in float64."""

import math

import numpy as np


def margin_loss(
    lengths, present, preset="paper", positive_margin=0.9, negative_margin=0.1, down_weight=0.5
):
    """Equation 4 for lengths and zeros or ones [b, j]; the released code halves it and takes the mean."""
    losses = np.zeros(len(lengths))
    for b in range(len(lengths)):
        terms = []
        for norm, one in zip(lengths[b], present[b], strict=True):
            if one:
                terms.append(max(0.0, positive_margin - norm) ** 2)
            else:
                terms.append(down_weight * max(0.0, norm - negative_margin) ** 2)
        losses[b] = sum(terms) if preset == "paper" else sum(0.5 * t for t in terms) / len(terms)
    return losses


def spread_loss(activation, present, margin):
    """Equation 3 of the 2018 paper for activations and zeros or ones [b, j] and margins [b]."""
    losses = np.zeros(len(activation))
    for b in range(len(activation)):
        for t in range(len(activation[b])):
            for i in range(len(activation[b])):
                gap = max(0.0, margin[b] - (activation[b][t] - activation[b][i]))
                losses[b] += present[b][t] * (1 - present[b][i]) * gap**2
    return losses


def cross_entropy_loss(activation, present, scale):
    """-sum_t T_t log p_t, p the softmax of scaled activations, for activations and labels [b, j]."""
    losses = np.zeros(len(activation))
    for b in range(len(activation)):
        powers = [math.exp(scale * a) for a in activation[b]]
        for power, one in zip(powers, present[b], strict=True):
            losses[b] -= one * math.log(power / sum(powers))
    return losses


def reconstruction_loss(reconstruction, image):
    """Sum of squared differences of each image, [b, h, w, c]."""
    losses = np.zeros(len(image))
    for b in range(len(image)):
        for drawn, given in zip(reconstruction[b].flat, image[b].flat, strict=True):
            losses[b] += (drawn - given) ** 2
    return losses


def entropy(coupling):
    """-sum_j c log c of each child, averaged over the children of one example, [i, j]."""
    total = 0.0
    for row in coupling:
        total -= sum(c * math.log(c) for c in row if c > 0)
    return total / len(coupling)
