# SPDX-License-Identifier: Apache-2.0
"""Register a class under a name in the one file that defines it.

Sources, planner outputs and predictors are found this way:

    @SOURCES.register('my_camera', MyCameraConfig)
    class MyCamera(Source[MyCameraConfig]): ...

The modules of the registry's folder are imported when a name is first looked up, so that no list
of them is kept. Code outside the package registers its classes by being imported first.
"""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from motion_predictor_ros.errors import ConfigError

T = TypeVar('T')
ClassT = TypeVar('ClassT', bound=type[Any])


@dataclass(frozen=True)
class ParameterGroups:
    """Parameters of all registered classes: one field per class, of its config class."""


class Registry(Mapping[str, type[T]], Generic[T]):
    """Classes by name, in alphabetical order, with the dataclass of each one's own parameters.

    Args:
        folder: The package whose modules register classes.
        kind: What the classes are, for error messages.
    """

    def __init__(self, folder: str, kind: str) -> None:
        self._folder, self._kind, self._is_loaded = folder, kind, False
        self._classes: dict[str, type[T]] = {}
        self._configs: dict[str, type[Any]] = {}

    def register(self, name: str, config_class: type[Any]) -> Callable[[ClassT], ClassT]:
        """Return a decorator that registers a class.

        Args:
            config_class: Frozen dataclass of the class's own parameters.
        """
        assert name not in self._classes, f'two {self._kind}s are named {name!r}'

        def decorate(registered: ClassT) -> ClassT:
            self._classes[name], self._configs[name] = registered, config_class
            return registered

        return decorate

    def unregister(self, name: str) -> None:
        """Remove a class."""
        del self._classes[name], self._configs[name]

    def default_config(self) -> ParameterGroups:
        """Return the default parameters of every registered class."""
        return _groups(tuple((name, self._configs[name]) for name in self))()

    def __getitem__(self, name: str) -> type[T]:
        """Return a class.

        Raises:
            ConfigError: None has this name.
        """
        self._load()
        if name not in self._classes:
            raise ConfigError(f'no {self._kind} {name!r}; known: {sorted(self._classes)}')
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._classes))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _load(self) -> None:
        if not self._is_loaded:
            self._is_loaded = True
            package = importlib.import_module(self._folder)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f'{self._folder}.{module.name}')


@functools.cache
def _groups(configs: tuple[tuple[str, type[Any]], ...]) -> type[ParameterGroups]:
    fields = [(name, config, field(default_factory=config)) for name, config in configs]
    bases = (ParameterGroups,)
    return dataclasses.make_dataclass('ParameterGroups', fields, bases=bases, frozen=True)
