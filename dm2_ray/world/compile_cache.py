"""Compiled kernels on disk: compiled once per machine, and never from stale code.

numba's own disk cache notices edits of the file that defines a function, but not edits of another file whose compiled
functions it calls: the old callee stays linked in. `kernel` therefore keeps the cache in a directory whose name is a
hash of all files that hold kernels and of the modules of this package which they import. An edited file gives another
directory, and two versions of the code can run side by side.

The directory is below numba's own ``NUMBA_CACHE_DIR`` if the user set it, otherwise beside the sources
(``__pycache__``), for read-only installations in the user's cache directory, and as a last resort in the temporary
directory. Workers that start together on a cold cache compile in parallel; numba replaces cache files atomically, and
since each kernel is used with one signature only, they all write the same entries.

This module sets no environment variable and changes numba's configuration only while a kernel is being declared or
compiled.
"""

from __future__ import annotations

import ast
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, overload

import numba

# numba logs every byte-code instruction at level DEBUG. A program whose root logger is at DEBUG would be flooded with
# these messages, and compiling would take four times as long. A level that the program set for numba itself is kept.
if logging.getLogger("numba").level == logging.NOTSET:
    logging.getLogger("numba").setLevel(logging.WARNING)

KernelFunction = TypeVar("KernelFunction", bound=Callable[..., Any])

_PACKAGE = Path(__file__).resolve().parent
_NUMBA_SETTINGS: Any = numba.config
_STALE_AFTER_S = 30 * 24 * 3600.0


def kernel_sources(package: Path) -> tuple[Path, ...]:
    """Files of `package` that determine the compiled kernels: those that import this module, the modules of the package
    that these import, and so on."""
    imports = {path: _imported_files(path, package) for path in sorted(package.rglob("*.py"))}
    found: set[Path] = set()
    pending = [path for path, files in imports.items() if package / Path(__file__).name in files]
    while pending:
        path = pending.pop()
        if path not in found:
            found.add(path)
            pending.extend(imports[path] & imports.keys())
    return tuple(sorted(found))


def _imported_files(path: Path, package: Path) -> set[Path]:
    """Files in `package` that the file's imports may refer to (a name that is not a module does no harm)."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    inside = (name.split(".") for name in names)
    return {
        package.joinpath(*parts[parts.index(package.name) + 1 :]).with_suffix(".py")
        for parts in inside
        if package.name in parts[:-1]
    }


@cache
def cache_directory() -> Path:
    """Directory of the compiled kernels of exactly these sources; created if it does not exist.

    Raises:
        OSError: Not even the temporary directory can be written to.
    """
    digest = hashlib.sha256()
    for path in kernel_sources(_PACKAGE):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}"
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    shared_parent = Path(tempfile.gettempdir()) / f"dm2_ray-{user}"
    if _NUMBA_SETTINGS.CACHE_DIR:
        candidates = [Path(_NUMBA_SETTINGS.CACHE_DIR) / "dm2_ray"]
    else:
        user_cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        candidates = [_PACKAGE / "__pycache__", Path(user_cache) / "dm2_ray", shared_parent]
    refusals = []
    for parent in candidates:
        directory = parent / name
        try:
            is_new = not directory.exists()
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if hasattr(os, "getuid") and parent == shared_parent and parent.stat().st_uid != os.getuid():
                raise PermissionError("belongs to another user, whose machine code must not be run")
            tempfile.TemporaryFile(dir=directory).close()
        except OSError as refusal:
            refusals.append(f"{directory}: {refusal}")
            continue
        if is_new:
            _remove_stale_siblings(directory)
        return directory
    raise OSError("no directory for compiled kernels can be written to; set NUMBA_CACHE_DIR. " + "; ".join(refusals))


def _remove_stale_siblings(directory: Path) -> None:
    """Delete caches of other versions that have not changed for a month."""
    for sibling in directory.parent.glob("kernels-*"):
        try:
            age_s = time.time() - sibling.stat().st_mtime
        except FileNotFoundError:  # another worker has deleted it
            continue
        if sibling != directory and age_s > _STALE_AFTER_S:
            shutil.rmtree(sibling, ignore_errors=True)


@overload
def kernel(function: KernelFunction) -> KernelFunction: ...


@overload
def kernel(
    *, inline: bool = ..., llvm_inline: bool = ..., allocates: bool = ...
) -> Callable[[KernelFunction], KernelFunction]: ...


def kernel(
    function: Callable[..., Any] | None = None,
    *,
    inline: bool = False,
    llvm_inline: bool = False,
    allocates: bool = True,
) -> Any:
    """Compile a function with numba on its first call and keep the machine code in `cache_directory`.

    The function must be defined in a file of this package, and every global number it reads must come from a file that
    contains kernels or is imported by one. Fast-math is off: results are the same on all machines with IEEE arithmetic.
    Division by zero gives inf or nan, as in numpy, instead of raising an exception.

    Args:
        function: The function, if the decorator is used without arguments.
        inline: Paste the function's body into its callers before they are compiled.
        llvm_inline: Paste the function's machine code into its callers. A call that is not pasted copies every array's
            pointer, shape and strides to the stack: some 60 numbers for a function that takes all tables of the engine.
        allocates: False promises that the function neither creates nor returns arrays, and drops numba's atomic
            reference counting of those passed to it (measured for the rules on one battle of 5m_vs_6m: 0.75 -> 0.44
            microseconds together with `inline`).
    """
    if function is None:
        return lambda decorated: _compile(decorated, inline, llvm_inline, allocates)
    return _compile(function, inline, llvm_inline, allocates)


def _compile(function: Callable[..., Any], inline: bool, llvm_inline: bool, allocates: bool) -> Any:
    configured = _NUMBA_SETTINGS.CACHE_DIR
    _NUMBA_SETTINGS.CACHE_DIR = str(cache_directory())
    try:
        options: dict[str, Any] = {
            "inline": "always" if inline else "never",
            "forceinline": llvm_inline,
            "_nrt": allocates,
        }
        dispatcher = numba.njit(cache=True, error_model="numpy", **options)(function)
    finally:
        _NUMBA_SETTINGS.CACHE_DIR = configured
    dispatcher.compile = _without_vector_loops(dispatcher.compile)
    return dispatcher


def _without_vector_loops(compile_signature: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A dispatcher's `compile` that leaves loops scalar: a loop over a dozen units has ended before its vector code has
    checked that no two arrays overlap (measured for 3s_vs_5z: 4.5 -> 4.2 microseconds per env step)."""

    def compile_scalar(signature: Any) -> Any:
        configured = _NUMBA_SETTINGS.LOOP_VECTORIZE
        _NUMBA_SETTINGS.LOOP_VECTORIZE = False
        try:
            return compile_signature(signature)
        finally:
            _NUMBA_SETTINGS.LOOP_VECTORIZE = configured

    return compile_scalar
