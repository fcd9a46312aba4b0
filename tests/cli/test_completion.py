"""Shell completion: really completed in bash; for zsh and fish the script holds all that bash completes."""

import shutil
import subprocess

import pytest

from capsjax.cli.completion import SHELLS, admitted, script, subcommands
from capsjax.cli.parser import make_parser
from capsjax.runs.config import shipped_configs

TRY = """
source "$1"
words() {
  COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE} COMPREPLY=()
  $(complete -p capsjax | sed 's/.*-F \\([^ ]*\\).*/\\1/')
  echo "$* = ${COMPREPLY[*]}"
}
while read -r line; do eval "words capsjax $line"; done
"""
CASES = {
    "''": "train compare evaluate predict report bench data info completion",
    "tr": "train",
    "train sm": "smoke",
    "train mine": "mine.yaml",
    "train smoke --se": "--seed",
    "train smoke --qu": "--quiet",
    "train smoke --training.e": "--training.epochs --training.eval_every --training.eval_batch_size",
    "train smoke --training.epochs 3 --model.pre": "--model.precision",
    "train smoke --model.routing.gradient s": "stop",
    "train smoke --model.routing.leaky ''": "true false",
    "train --resume ru": "runs",
    "compare digits --compare.se": "--compare.seeds",
    "report ru": "runs",
    "train --from ru": "runs",
    "train smoke --data.path mi": "mine.yaml",
    "train smoke --data.folder ru": "runs",
    "evaluate --training": "--training.eval_batch_size --training.feed",
    "train smoke --training.feed g": "grain",
    "evaluate runs --data.pa": "--data.path",
    "report runs --data.path mi": "mine.yaml",
    "bench st": "step",
    "data ve": "verify",
    "data fetch us": "usps",
    "data show digits --data.see": "--data.seed",
    "bench step smo": "smoke",
    "bench routing --num": "--num-iters",
    "bench forward smoke --model.dim": "--model.dim",
    "completion f": "fish",
}


def test_bash_completes(tmp_path):
    (tmp_path / "script").write_text(script("bash"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "mine.yaml").write_text("")
    command = ["bash", "--norc", "-c", TRY, "bash", "./script"]
    done = subprocess.run(
        command,
        input="\n".join(CASES) + "\n",
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    found = [line.split(" = ") for line in done.stdout.splitlines()]
    assert [completed for _, completed in found] == list(CASES.values())


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_knows_commands_flags_and_configurations(shell, tmp_path, answer):
    code, out, _ = answer("completion", shell)
    text = "\n".join(out)
    assert code == 0
    for word in (*subcommands(make_parser()), *shipped_configs()):
        assert word.split()[-1] in text
    for key in admitted():
        assert key in text
    if shutil.which(shell):
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_keys_admit_what_their_fields_do():
    found = admitted()
    kinds = {"digits", "mnist", "fashion_mnist", "arrays", "folder", "picture_list", "table"}
    kinds |= {"perturbed", "overlapping", "usps", "eth80"}
    kinds |= {"affnist", "cifar10", "kmnist", "small_norb", "svhn"}
    assert set(found["data.kind"]) == set(found["data"]) == kinds
    assert found["model.precision"] == ("float32", "bfloat16")
    assert found["training.epochs"] == ()
    assert not {"stop", "full"} & set(found["compare.modes"])  # a list, not one of them


def test_an_unknown_shell_is_refused(answer):
    code, _, err = answer("completion", "bsh")
    assert code == 2
    assert "did you mean 'bash'?" in err[0]
