"""`python -m app`: serve (the default), runtime, settings, keys, models, aliases … Heavy imports where used."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from app import __version__
from app.core.errors import LoupeError, SettingsError

USER_ERROR = 2  # something the operator has to mend; told in one line, never with a traceback


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["runtime"]:
        from app.runtime.main import main as runtime

        return runtime(given[1:])
    options = _parser().parse_args(given if given and not _is_option_of_serve(given[0]) else ["serve", *given])
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except SettingsError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
    except LoupeError as error:
        print(error.message, file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return USER_ERROR


def _is_option_of_serve(word: str) -> bool:
    return word.startswith("-") and word not in ("-h", "--help", "--version")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description="Loupe: a local LLM web app on Ollama")
    parser.add_argument("--version", action="version", version=f"Loupe {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    serve = commands.add_parser("serve", help="run Loupe (the default)")
    serve.add_argument("--bind", help="address to listen on (LOUPE_BIND)")
    serve.add_argument("--port", help="port to listen on (LOUPE_PORT)")
    serve.add_argument("--data", help="data folder (LOUPE_DATA)")
    serve.add_argument("--no-starter", action="store_true", help="do not fetch the starter model (LOUPE_STARTER=off)")
    serve.add_argument("--open", action="store_true", help="open the page in a browser when ready")
    serve.set_defaults(command=_serve)
    commands.add_parser("runtime", help="run the embedded runtime alone, like `ollama serve`", add_help=False)
    settings = commands.add_parser("settings", help="print the settings in force and where each comes from")
    settings.add_argument("--markdown", action="store_true", help="print docs/settings.md instead")
    settings.set_defaults(command=_settings)
    from app.cli_keys import add_commands as add_key_commands

    add_key_commands(commands.add_parser("keys", help="make, list and revoke the keys by which clients come in"))
    from app.cli_models import add_commands

    add_commands(commands.add_parser("models", help="list, get, make and delete models"))
    from app.cli_aliases import add_commands as add_alias_commands

    add_alias_commands(commands.add_parser("aliases", help="names that stand for models, with fallbacks and defaults"))
    from app.cli_history import add_commands as add_history_commands

    add_history_commands(commands)
    from app.cli_compare import add_options

    add_options(commands.add_parser("compare", help="which quantization of a model to run: a scorecard"))
    from app.cli_teach import add_options as add_teach_options

    add_teach_options(commands.add_parser("teach", help="a model's answers as training data for a smaller one"))
    from app.cli_load import add_options as add_load_options

    add_load_options(commands.add_parser("load", help="how many people a host can answer: a load run"))
    from app.cli_batch import add_options as add_batch_options

    add_batch_options(commands.add_parser("batch", help="a file of prompts, answered when nobody else asks"))
    from app.cli_batching import add_options as add_batching_options

    add_batching_options(commands.add_parser("batching", help="how many answers at once, and which runtime options"))
    from app.cli_check import add_options as add_check_options

    add_check_options(commands.add_parser("check", help="is this machine right for local models?"))
    from app.cli_alerts import add_options as add_alert_options

    add_alert_options(commands.add_parser("alerts", help="what needs somebody now; or the rules, for a Prometheus"))
    from app.cli_audit import add_command as add_audit

    add_audit(commands)
    health = commands.add_parser("health", help="exit 0 if the running Loupe is healthy")
    health.add_argument("--ready", action="store_true", help="also want a model that can answer")
    health.set_defaults(command=_health)
    return parser


def _serve(options: argparse.Namespace) -> int:
    from app.config_report import load_settings
    from app.serving import serve

    words = {name: getattr(options, name) for name in ("bind", "port", "data")}
    given: dict[str, object] = {name: value for name, value in words.items() if value is not None}
    loaded = load_settings(**given, **({"starter": False} if options.no_starter else {}))
    return serve(loaded, open_browser=options.open)


def _settings(options: argparse.Namespace) -> int:
    from app.cli_settings import print_settings

    return print_settings(markdown=options.markdown)


def _health(options: argparse.Namespace) -> int:
    from app.cli_client import check_health

    return check_health(ready=options.ready)


if __name__ == "__main__":
    sys.exit(main())
