"""The command line: parses, calls the rooms, prints. Torch is imported only when work begins.

Exit codes: 0 done, 1 the work failed, 2 the request was wrong, 130 interrupted after a checkpoint.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable
from importlib import import_module

from ganforge import __version__
from ganforge.errors import RequestError, TrainingError

COMMANDS = {
    "list": ("catalogue", "the games: paper, what each reads, what it can do"),
    "info": ("info", "one game: objective, players and their parameters, hyper-parameters, presets"),
    "data": ("data", "what is in a SOURCE, which games can read it, a contact sheet"),
    "train": ("train", "train a game on a SOURCE into a run folder; stop and resume at will"),
    "sample": ("use", "new data from a trained run: a picture, or single files"),
    "interpolate": ("use", "the way between seeds, classes or pictures of one's own: a strip or an animation"),
    "movie": ("movie", "how a run's pictures came to be, round by round: an animation"),
    "translate": ("apply", "pictures as another domain would have them: horses as zebras, sketches as photos"),
    "upscale": ("apply", "pictures made larger, of any size"),
    "inpaint": ("apply", "holes in pictures filled; all else stays as it is, bit for bit"),
    "edit": ("edit", "named properties of pictures, or of samples, set to values"),
    "directions": ("directions", "directions of a run's latents learnt from labels, as dials of edit: Smiling, blond, 7"),
    "encode": ("tell", "pictures as numbers, in a table"),
    "classify": ("tell", "which class each picture is of, in a table"),
    "cluster": ("tell", "pictures sorted into groups that the game found by itself, in a table"),
    "project": ("project", "the latents of pictures: what a run's generator comes nearest to"),
    "nearest": ("nearest", "the pictures of a collection nearest to given ones, to generated ones, to a sentence"),
    "evaluate": ("evaluate", "how good a run is at what it can do, as a table and a JSON file"),
    "compare": ("compare", "which of several runs is better: one table and one picture, measured alike"),
    "doctor": ("doctor", "what goes wrong in a run, since when, why as a rule, what to try"),
    "export": ("export", "a trained game as an ONNX file, which runs without torch, and a card that says what it is"),
    "publish": ("publish", "a run as a folder for others: its weights, its card, nothing of this machine; ready for a model hub"),
}
"""Each command with the module of `ganforge.commands` that holds it, and its line of help."""

_USAGE = """\
usage: ganforge COMMAND ...

{commands}

  ganforge COMMAND --help     the options of a command
  ganforge train GAME --help  the options of a game: its paper's hyper-parameters

SOURCE is a bundled name (digits, gaussian, curves, sine, ring, grid), a folder of pictures, an .npz, .npy or .csv file.
  ganforge train dcgan --data digits --rounds 500 --out runs/digits
  ganforge sample runs/digits --n 64 --out grid.png
  ganforge translate runs/horses photos --out zebras
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return _dispatch(arguments)
    except BrokenPipeError:
        return 0
    except (RequestError, TrainingError) as error:
        if debug:
            raise
        # Every process of a run reads the same wrong request; one on each machine says it.
        first = os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("LOCAL_RANK", "0") == "0"
        if not error.reported and (isinstance(error, TrainingError) or first):
            print("ganforge: " + " ".join(str(error).split()), file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    except OSError as error:
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"ganforge: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ganforge: interrupted", file=sys.stderr)
        return 130


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        width = max(map(len, COMMANDS))
        print(_USAGE.format(commands="\n".join(f"  {name:{width}}  {about}" for name, (_, about) in COMMANDS.items())), end="")
        return 0
    if arguments[0] in ("--version", "version"):
        print(f"ganforge {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        raise RequestError(
            f"command {name!r} is unknown; " + (f"did you mean {near[0]!r}?" if near else f"the commands are {', '.join(COMMANDS)}")
        )
    module, about = COMMANDS[name]
    command: Callable[[list[str], str], int] = getattr(import_module(f"ganforge.commands.{module}"), f"{name}_command")
    return command(rest, about)
