"""The ``evstream`` command: its subcommands, and errors as one line with the next step."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

from cyclopts import App, CycloptsError

import evstream
from evstream.cli import EXIT_INTERRUPTED, EXIT_TERMINATED
from evstream.cli.edge_serve import edge
from evstream.domain.errors import EvstreamError, RequestError

EXIT_ERROR = 1
EXIT_REQUEST = 2
EXIT_INCOMPLETE = 3

app = App(
    name="evstream",
    help="Exactly the events you need; they arrive while you compute; every one is counted.",
    version=evstream.__version__,
    help_format="plaintext",
    # We say ourselves that a command was interrupted.
    suppress_keyboard_interrupt=False,
)
# Named, not imported: a pilot should not wait for what only other commands need.
app.command("evstream.cli.run:run", name="run")
app.command("evstream.cli.serve:serve", name="serve")
app.command("evstream.cli.head:head", name="head")
app.command("evstream.cli.submit:submit", name="submit")
app.command("evstream.cli.status:status", name="status")
app.command("evstream.cli.report:report", name="report")
app.command("evstream.cli.pilot:pilot", name="pilot")
app.command("evstream.cli.pilots:pilots", name="pilots")
app.command("evstream.cli.get:get", name="get")
app.command("evstream.cli.plan:plan", name="plan")
app.command("evstream.cli.token:token", name="token")
app.command("evstream.cli.verify:verify", name="verify")
app.command("evstream.cli.inspect:inspect", name="inspect")
app.command("evstream.cli.cut:cut", name="cut")
app.command("evstream.cli.join:join", name="join")
app.command("evstream.cli.doctor:doctor", name="doctor")
dataset_app = App(name="dataset", help="Register files under a name, and look them up.")
dataset_app.command("evstream.cli.dataset:add", name="add")
dataset_app.command("evstream.cli.dataset:show", name="show")
dataset_app.command("evstream.cli.dataset:list_all", name="list")
app.command(dataset_app)
task_app = App(name="task", help="Look at a task, change its course, fetch what it made.")
task_app.command("evstream.cli.task_file:init", name="init")
task_app.command("evstream.cli.task_file:schema", name="schema")
task_app.command("evstream.cli.task:show", name="show")
task_app.command("evstream.cli.task:cancel", name="cancel")
task_app.command("evstream.cli.task_control:pause", name="pause")
task_app.command("evstream.cli.task_control:resume", name="resume")
task_app.command("evstream.cli.task_control:archive", name="archive")
task_app.command("evstream.cli.task_control:schedule", name="schedule")
task_app.command("evstream.cli.task_control:retry", name="retry")
task_app.command("evstream.cli.task_control:reprocess", name="reprocess")
task_app.command("evstream.cli.task_control:withdraw", name="withdraw")
task_app.command("evstream.cli.task_lists:set_aside", name="set-aside")
task_app.command("evstream.cli.task_lists:lumis", name="lumis")
task_app.command("evstream.cli.task:outputs", name="outputs")
task_app.command("evstream.cli.task:log", name="log")
app.command(task_app)
app.command("evstream.cli.request:prepare", name="prepare")
request_app = App(name="request", help="What edges are to make ahead.")
request_app.command("evstream.cli.request:list_all", name="list")
request_app.command("evstream.cli.request:show", name="show")
request_app.command("evstream.cli.request:cancel", name="cancel")
app.command(request_app)
product_app = App(name="product", help="What is prepared where, and what is wanted.")
product_app.command("evstream.cli.product:find", name="find")
product_app.command("evstream.cli.product:ready", name="ready")
product_app.command("evstream.cli.product:wanted", name="wanted")
app.command(product_app)
edge_app = App(name="edge")
edge_app.default(edge)
edge_app.command("evstream.cli.edge:add", name="add")
edge_app.command("evstream.cli.edge:list_all", name="list")
edge_app.command("evstream.cli.edge:drain", name="drain")
edge_app.command("evstream.cli.edge:maintain", name="maintain")
edge_app.command("evstream.cli.edge:resume", name="resume")
edge_app.command("evstream.cli.edge:remove", name="remove")
app.command(edge_app)
replica_app = App(name="replica", help="Copies of a dataset's files.")
replica_app.command("evstream.cli.replica:add", name="add")
replica_app.command("evstream.cli.replica:list_all", name="list")
replica_app.command("evstream.cli.replica:remove", name="remove")
app.command(replica_app)
site_app = App(name="site", help="Where sites are, and how fast the ways to edges are.")
site_app.command("evstream.cli.site:add", name="add")
site_app.command("evstream.cli.site:list_all", name="list")
site_app.command("evstream.cli.site:remove", name="remove")
site_app.command("evstream.cli.site:links", name="links")
app.command(site_app)
index_app = App(name="index", help="Find events by run, lumi block and event number.")
index_app.command("evstream.cli.event_index:build", name="build")
index_app.command("evstream.cli.event_index:lookup", name="lookup")
index_app.command("evstream.cli.event_index:duplicates", name="duplicates")
index_app.command("evstream.cli.event_index:remove", name="remove")
index_app.command("evstream.cli.event_index:compact", name="compact")
index_app.command("evstream.cli.event_index:show", name="show")
app.command(index_app)
whiteboard_app = App(name="whiteboard", help="Notes on datasets, files and events.")
whiteboard_app.command("evstream.cli.whiteboard:define", name="define")
whiteboard_app.command("evstream.cli.whiteboard:keys", name="keys")
whiteboard_app.command("evstream.cli.whiteboard:put", name="put")
whiteboard_app.command("evstream.cli.whiteboard:get", name="get")
whiteboard_app.command("evstream.cli.whiteboard:find", name="find")
whiteboard_app.command("evstream.cli.whiteboard:at", name="at")
whiteboard_app.command("evstream.cli.whiteboard:history", name="history")
whiteboard_app.command("evstream.cli.whiteboard:rm", name="rm")
app.command(whiteboard_app)
catalogue_app = App(name="catalogue", help="Back up ledger and catalogue, and put them back.")
catalogue_app.command("evstream.cli.catalogue:backup", name="backup")
catalogue_app.command("evstream.cli.catalogue:restore", name="restore")
app.command(catalogue_app)
api_app = App(name="api", help="The HTTP API, for other programs.")
api_app.command("evstream.cli.api:schema", name="schema")
app.command(api_app)
key_app = App(name="key", help="API keys: who may do what.")
key_app.command("evstream.cli.key:create", name="create")
key_app.command("evstream.cli.key:list_all", name="list")
key_app.command("evstream.cli.key:revoke", name="revoke")
app.command(key_app)
simulate_app = App(name="simulate", help="What would happen, from rules and a trace.")
simulate_app.command("evstream.cli.simulate:cache", name="cache")
app.command(simulate_app)
config_app = App(name="config", help="Settings, and where each came from.")
config_app.command("evstream.cli.config:show", name="show")
app.command(config_app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with 0, or with a code that says who should act."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if not words or {"--help", "-h"} & set(words):
            _resolve(app)
        with _tidy_when_terminated():
            app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _complain(_without_stop(str(error)), "see 'evstream --help' or 'evstream COMMAND --help'")
        sys.exit(EXIT_REQUEST)
    except EvstreamError as error:
        sys.exit(tell(error))
    except KeyboardInterrupt:
        _complain("interrupted", "")
        sys.exit(EXIT_INTERRUPTED)
    except _Terminated:
        _complain("terminated", "")
        sys.exit(EXIT_TERMINATED)
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_ERROR)


def tell(error: EvstreamError) -> int:
    """Say what went wrong, and return the code to exit with."""
    _complain(error.message, error.hint)
    return EXIT_REQUEST if isinstance(error, RequestError) else EXIT_ERROR


class _Terminated(SystemExit):
    """SIGTERM came. Event loops let this kind of exception through."""


@contextmanager
def _tidy_when_terminated() -> Iterator[None]:
    """Let SIGTERM, as batch systems send it, unwind as an interrupt does: no file is left half.

    Commands with loops of their own take the signal for themselves.
    """
    plain = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if plain:
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if plain:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(*_: object) -> Never:
    raise _Terminated


def _resolve(commands: App) -> None:
    """Import the commands: an overview shows a line of each one's own help."""
    for name in commands:
        if not name.startswith("-"):
            _resolve(commands[name])


def _without_stop(sentence: str) -> str:
    """Return a sentence for another to follow; dots that stand for more are left."""
    return sentence if sentence.endswith("...") else sentence.rstrip(".")


def _complain(message: str, hint: str) -> None:
    text = " ".join(f"{message}; {hint}".split() if hint else message.split())
    print(f"evstream: error: {text}", file=sys.stderr)
