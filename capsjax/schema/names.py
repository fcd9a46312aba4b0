"""Keys of a configuration by other names: at another level, with dashes, as other programs call them."""

import difflib
from collections.abc import Iterable, Mapping

# The last part of a key in other programs, and what it is here; only keys that there are get suggested.
USUAL: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("lr", "learning_rate", "base_lr", "step_size"), ("optimiser.schedule.rate",)),
    **dict.fromkeys(("bs", "batch", "batchsize", "train_batch_size"), ("training.batch_size",)),
    **dict.fromkeys(("test_batch_size", "val_batch_size"), ("training.eval_batch_size",)),
    **dict.fromkeys(("num_epochs", "n_epochs", "max_epochs"), ("training.epochs",)),
    **dict.fromkeys(("num_steps", "max_steps", "train_steps"), ("training.steps",)),
    **dict.fromkeys(
        ("iterations", "iters", "num_iterations"), ("model.routing.num_iters", "training.steps")
    ),
    **dict.fromkeys(
        ("r", "routings", "num_routing", "num_routings", "routing_iterations"),
        ("model.routing.num_iters",),
    ),
    **dict.fromkeys(("optimizer", "opt"), ("optimiser",)),
    **dict.fromkeys(("scheduler", "lr_scheduler", "lr_schedule"), ("optimiser.schedule",)),
    **dict.fromkeys(("lr_decay", "gamma"), ("optimiser.schedule.decay",)),
    **dict.fromkeys(("beta_1", "b1"), ("optimiser.beta1",)),
    **dict.fromkeys(("beta_2", "b2"), ("optimiser.beta2",)),
    "eps": ("optimiser.epsilon",),
    "wd": ("optimiser.weight_decay",),
    **dict.fromkeys(
        ("clip", "grad_clip", "clip_grad_norm", "max_grad_norm", "gradient_clip_val"),
        ("optimiser.clip_norm",),
    ),
    "warmup_steps": ("optimiser.schedule.warmup",),
    "warmup_ratio": ("optimiser.schedule.warmup_fraction",),
    "dataset": ("data",),
    **dict.fromkeys(("random_seed", "manual_seed"), ("seed",)),
    **dict.fromkeys(("num_seeds", "n_seeds"), ("compare.seeds",)),
    **dict.fromkeys(("dtype", "bf16", "fp16", "amp"), ("model.precision",)),
    **dict.fromkeys(
        ("lam_recon", "recon_weight", "reconstruction"), ("loss.reconstruction_weight",)
    ),
    **dict.fromkeys(("shift", "shift_pixels", "shift_fraction"), ("max_shift",)),
    **dict.fromkeys(
        ("augmentation", "augmentations", "transform", "transforms", "data_augmentation"),
        ("augment",),
    ),
    **dict.fromkeys(("criterion", "loss_fn", "loss_function", "objective"), ("loss.kind",)),
    **dict.fromkeys(("mode", "gradient_mode", "backward"), ("model.routing.gradient",)),
    "log_interval": ("training.log_every",),
    **dict.fromkeys(
        ("save_every", "save_interval", "checkpoint_interval"), ("training.checkpoint_every",)
    ),
    **dict.fromkeys(
        ("validate_every", "validation_every", "eval_interval", "val_interval"),
        ("training.eval_every",),
    ),
}


def canonical(name: str) -> str:
    """Write a key or a flag as keys are written: no dashes before it, underscores within, small letters."""
    return name.lstrip("-").replace("-", "_").lower()


def keys_named(known: Iterable[str], name: str) -> list[str]:
    """Find the keys that a name means.

    Args:
        known: every dotted key of a configuration, the outer ones first.
        name: a key or a flag, dotted or not, such as `batch-size` or `--optimizer.lr`.

    Returns:
        Dotted keys: those that end in the name; else in its last part, and what other programs call so.
    """
    known, whole = list(known), canonical(name)
    last = whole.split(".")[-1]
    if "." in whole and (found := [key for key in known if f".{key}".endswith(f".{whole}")]):
        return found[:3]
    usual = [key for key in USUAL.get(last, ()) if key in known]
    # Three at most: a longer list helps nobody, and the outer keys, which come first, are the likelier.
    return [key for key in known if f".{key}".endswith(f".{last}")][:3] + usual


def keys_near(known: Iterable[str], name: str) -> list[str]:
    """Find the keys whose last part is nearest to a name, at most three; none where none is near.

    Args:
        known: every dotted key of a configuration, the outer ones first.
        name: a key or a flag.
    """
    lasts: dict[str, list[str]] = {}
    for key in known:
        lasts.setdefault(key.split(".")[-1], []).append(key)
    # The last part alone: a slip at the level is `keys_named`'s business, one in the word is ours.
    close = difflib.get_close_matches(canonical(name).split(".")[-1], lasts, n=1, cutoff=0.7)
    return lasts[close[0]][:3] if close else []


def did_you_mean(names: Iterable[str]) -> str:
    """Suggest names: `"; did you mean 'x' or 'y'?"`, or nothing where there is none."""
    hint = " or ".join(map(repr, dict.fromkeys(names)))
    return f"; did you mean {hint}?" if hint else ""
