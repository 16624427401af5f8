"""Flags made from the fields of configurations, the only place where the name, meaning and allowed values of a setting are defined."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer
from typer.core import TyperCommand

from serendip.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["Command", "flag_names", "flags_of", "load_model", "with_flags"]

# flags that are not called like their fields, or have a second name
_NAMES = {"method": ("--method", "--methods"), "questions": ("--question", "--questions")}

_Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def with_flags(flags: Mapping[str, Any]) -> _Decorator:
    """Give a command flags by name, after ``--out``; they arrive in its ``**flags``, None if not given."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=flag)
            for name, flag in flags.items()
        ]
        after = 1 + [p.name for p in own].index("out")
        ordered = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own[:after], *more, *own[after:])
        ]
        # typer reads both
        vars(command)["__signature__"] = signature.replace(parameters=ordered)
        command.__annotations__ = {p.name: p.annotation for p in ordered}
        return command

    return decorate


def flags_of(*models: str) -> _Decorator:
    """Give a command, which is registered with ``cls=Command``, the fields of configurations as flags.

    Parameters
    ----------
    models
        Configurations, ``"package.module:Class"``. They are imported when the command is used, since some take seconds. Of
        fields of one name that of the first model is taken.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        vars(command)["models"] = models
        return with_flags({})(command)

    return decorate


def load_model(path: str) -> type[BaseModel]:
    """Import a model ``"package.module:Class"``."""
    module, _, name = path.partition(":")
    model: type[BaseModel] = getattr(import_module(module), name)
    return model


def flag_names(model: type[BaseModel]) -> list[str]:
    """Fields of a model that are flags: all but those of its ``no_flag``."""
    return [name for name in model.model_fields if name not in getattr(model, "no_flag", {})]


class Command(TyperCommand):
    """A command with :func:`flags_of` models, which are imported when it is used or its help is shown, but not for the list of commands."""

    _complete = False

    def get_params(self, ctx: Any) -> Any:
        """Give all parameters."""
        if not self._complete:
            assert self.callback is not None
            app = typer.Typer(add_completion=False)
            app.command()(_with_models(inspect.unwrap(self.callback)))
            made = typer.main.get_command(app)
            self.params, self.callback, self._complete = made.params, made.callback, True
        return super().get_params(ctx)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; messages about a setting that came from a flag name the flag, and its value."""
        from serendip.search.config import SettingsError

        try:
            return super().invoke(ctx)
        except SettingsError as error:
            flags = {
                p.name: (p.opts[0], value)
                for p in self.params
                if (value := ctx.params.get(p.name)) is not None
            }
            texts = []
            for key, text in error.problems:
                where = f"{error.source}: {key}" if key else error.source
                if found := flags.get(key.partition(".")[0]):
                    where, value = (
                        found[0],
                        ", ".join(found[1]) if isinstance(found[1], list) else str(found[1]),
                    )
                    where += "" if f"'{value}'" in text else f" {value}"
                texts.append(f"{where}: {text}")
            raise InputError("; ".join(texts)) from None


def _with_models(command: Callable[..., None]) -> Callable[..., None]:
    made: dict[str, Any] = {}
    for path in vars(command)["models"]:
        model = load_model(path)
        made = made | {name: _flag(model, name) for name in flag_names(model) if name not in made}

    @functools.wraps(command)
    def complete(**given: Any) -> None:
        command(**given)

    return with_flags(made)(complete)


def _flag(model: type[BaseModel], name: str) -> Any:
    """One field as a flag; anything that is neither a number nor yes or no is passed to the model as text."""
    field = model.model_fields[name]
    known = [arg for arg in get_args(field.annotation) if arg is not type(None)] or [field.annotation]
    outer = get_origin(field.annotation)
    if outer is dict or (outer is tuple and get_origin(known[0]) is tuple):
        kind: Any = list[str]
    else:
        kind = known[0] if len(known) == 1 and known[0] in (bool, int, float) else str
    word = name.replace("_", "-")
    names = _NAMES.get(name, (f"--{word}/--no-{word}" if kind is bool else f"--{word}",))
    return Annotated[kind | None, typer.Option(*names, help=_help(model, name))]


def _help(model: type[BaseModel], name: str) -> str:
    """Text of a field, or of the field that it replaces, and its default unless the text has it."""
    described = (vars(base).get("__pydantic_fields__", {}).get(name) for base in model.__mro__)
    text = " ".join(
        next((field.description for field in described if field and field.description), "").split()
    )
    default = model.model_fields[name].get_default(call_default_factory=True)
    if "default" in text.lower() or default in (None, (), {}) or model.model_fields[name].is_required():
        return text
    if isinstance(default, bool):
        default = f"--{'' if default else 'no-'}{name.replace('_', '-')}"
    values = default if isinstance(default, tuple) else (default,)
    return f"{text.removesuffix('.')}; default: {','.join(f'{v:g}' if isinstance(v, float) else str(v) for v in values)}."
